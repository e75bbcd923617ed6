"""One real cloud for all of these tests (making it costs a minute), and a browser at a small one with fake machines."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from playwright.sync_api import Browser

from cloud.tenancy.models import Role
from tests import factories
from tests.clouds import SmallCloud
from tests.compute.agent.unicorn.conftest import riscv_linux  # noqa: F401
from tests.conftest import forget_limits
from tests.end_to_end.browsers import DESK, Visitor, chromium, lay_out_static
from tests.end_to_end.machines import OneMachine
from tests.images.conftest import tiny_linux  # noqa: F401
from tests.servers import REAL_HASHERS, Servers, web_and_streams


@pytest.fixture(scope="session")
def machine() -> Iterator[OneMachine]:
    """Goes with everything in it; the tests fail when a process or a socket stays behind."""
    folder = Path(tempfile.mkdtemp(prefix="pileus-copy-"))
    folder.chmod(0o755)
    machine = OneMachine(folder)
    try:
        began = time.monotonic()
        machine.first_up = machine.pileus("up")
        machine.first_up_seconds = time.monotonic() - began
        machine.first_boots = machine.boots()
        yield machine
    finally:
        machine.pileus("down", check=False)
        left, sockets = machine.processes(), machine.home.runtime
        shutil.rmtree(folder, ignore_errors=True)
    assert left == []
    assert not sockets.exists()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def static_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("static")
    before = os.environ.get("PILEUS_STATIC_ROOT")
    os.environ["PILEUS_STATIC_ROOT"] = str(folder)
    with override_settings(STATIC_ROOT=folder):
        lay_out_static(folder)
        yield
    os.environ.pop("PILEUS_STATIC_ROOT")
    if before is not None:
        os.environ["PILEUS_STATIC_ROOT"] = before


@pytest.fixture(scope="module")
def servers(static_files: None, django_db_setup: None, django_db_blocker: Any) -> Iterator[Servers]:
    """After the files: web reads where they are when it starts."""
    with web_and_streams(django_db_blocker) as running:
        yield running


@pytest.fixture
def cloud() -> Iterator[SmallCloud]:
    """The project `demo`, with its member mia, and the cloud's admin root; their passwords are their names, twice."""
    with tempfile.TemporaryDirectory(prefix="p-") as folder:  # short: there are Unix sockets in it
        cloud = SmallCloud(Path(folder))
        cloud.project.name = "demo"
        cloud.project.save()
        with override_settings(PASSWORD_HASHERS=REAL_HASHERS):  # as web checks them
            factories.member(cloud.project, Role.MEMBER, "mia")
            factories.user("root", is_cloud_admin=True)
        yield cloud


@pytest.fixture
def visit(browser: Browser, servers: Servers) -> Iterator[Callable[..., Visitor]]:
    """Somebody new at the browser: `visit(viewport=PHONE)`. Fails when their browser has complained of anything."""
    forget_limits("rate:")  # that web has for 127.0.0.1
    visitors: list[Visitor] = []

    def make(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, servers.url, **{"viewport": DESK, **options}))
        return visitors[-1]

    yield make
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for visitor in visitors:
        visitor.context.close()
    assert complaints == []
