"""What every test may ask for: a client, and the people of one project."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.test import TransactionTestCase
from rest_framework.test import APIClient

from cloud.api import limits
from cloud.tenancy.models import Project, Role, User
from tests import factories
from tests.clouds import SmallCloud
from tests.rows import empty_tables, undone_at_last
from tests.scheduling import InGroups, missing_paths, tell_heavy
from tests.storage.ceph import Cluster, missing


def pytest_configure(config: pytest.Config) -> None:
    """Passwords of tests need not withstand anybody: hashing them well would take most of the time."""
    if lacking := missing_paths(config):  # pytest's own words, which get lost in workers
        raise pytest.UsageError(f"file or directory not found: {' '.join(lacking)}")
    os.environ["DJANGO_SETTINGS_MODULE"] = "cloud.settings"  # processes that tests start are the real cloud's
    config.addinivalue_line("filterwarnings", "ignore:No directory at.*static:UserWarning")
    limits.KEYS = f"rate:{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}:"  # tests side by side have one Redis
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    TransactionTestCase._fixture_teardown = empty_tables


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InGroups:
    return InGroups(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tell_heavy(config, items)


class Client(APIClient):
    """A client of the REST API. Paths are below /api/v1: `api.get("flavors")`; others begin with a slash."""

    def as_(self, who: User | str | None) -> "Client":
        """The same API for a user (who gets a token), for the secret of a token, or for a stranger."""
        client = Client(raise_request_exception=False)
        if who is not None:
            secret = factories.token(who) if isinstance(who, User) else who
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        return client

    def generic(self, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        full = path if path.startswith(("/", "http:")) else f"/api/v1/{path}"
        return super().generic(method, full, *arguments, **options)


@pytest.fixture(scope="module")
def rows_of_module(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Rows that fixtures of a whole module make after this one stay until its last test; what a test does is undone.

    For tables of many small tests: to make their world costs more than to ask it.
    """
    with django_db_blocker.unblock(), undone_at_last():
        yield


@pytest.fixture
def fresh_limits() -> None:
    """Strangers of earlier tests have used nothing up, and neither has anybody under a name that was theirs."""
    forget_limits(limits.KEYS)


def forget_limits(keys: str) -> None:
    """Empty the buckets whose names begin so: those of this worker's tests, or those of web processes."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        names = client.scan_iter(f"{keys}sign-in-as:*", count=1000)
        client.delete(*(f"{keys}{kind}:127.0.0.1" for kind in ("address", "guess", "sign-in")), *names)


@pytest.fixture
def api(db: None, fresh_limits: None) -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
def project(db: None) -> Project:
    return factories.project("demo")


@pytest.fixture
def viewer(project: Project) -> User:
    return factories.member(project, Role.VIEWER, "vera")


@pytest.fixture
def member(project: Project) -> User:
    return factories.member(project, Role.MEMBER, "mia")


@pytest.fixture
def project_admin(project: Project) -> User:
    return factories.member(project, Role.ADMIN, "ada")


@pytest.fixture
def cloud_admin(db: None) -> User:
    return factories.user("root", is_cloud_admin=True)


@pytest.fixture
def other_tenant(db: None) -> User:
    """Admin of a project of their own, and a stranger to every other."""
    return factories.member(factories.project("elsewhere"), Role.ADMIN, "otto")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for Unix sockets (107 bytes), which pytest's own may not."""
    with tempfile.TemporaryDirectory(prefix="pc-") as directory:
        yield Path(directory)


@pytest.fixture
def cloud(db: None, short_path: Path) -> SmallCloud:
    """A small cloud with one fake node that has joined."""
    return SmallCloud(short_path)


@pytest.fixture(scope="session")
def ceph() -> Iterator[Cluster]:
    """A cluster of the whole run. What a test makes in it has a name of its own."""
    if lacking := missing():
        pytest.skip(f"Debian's packages for a Ceph cluster are missing, and cannot be installed here: {lacking}")
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="ceph-", dir="/tmp")))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
