"""Every identity that is no plain user × every route: narrow ones open no more than they are for, dead ones nothing.

The routes and who may what are those of `test_every_route`; docs/operating.md says of each identity when it ends.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now

from cloud.api.authentication import digest
from cloud.embedded.paths import TREE
from cloud.events.services import SYSTEM
from cloud.hosts import services as hosts
from cloud.hosts.models import Host
from cloud.tenancy import accounts
from cloud.tenancy.models import BrowserSession, Membership, Project, Role, Token, User
from compute.models import ConsoleTicket, Instance
from tests import factories
from tests.rows import undone
from tests.test_every_route import API_ROUTES, HOST, TABLE, P, address, expected
from tests.test_every_route import world as world  # noqa: PLC0414

pytestmark = pytest.mark.django_db

PUBLIC_ROUTES = {route for route, methods in TABLE.items() if any(may == "public" for may, _ in methods.values())}
Wanted = Callable[[str, str], int]


def like(identity: str) -> Wanted:
    """Gets what this identity of the other table gets."""
    return lambda route, method: expected(route, method, identity)


def in_a_browser(identity: str) -> Wanted:
    """The same; but metrics are for programs, which have tokens."""
    return lambda route, method: 401 if (route, method) == ("metrics", "GET") else expected(route, method, identity)


def for_one_project(route: str, method: str) -> int:
    """An admin of the cloud, whose token is for the project alone: neither for the account nor for the cloud."""
    return 403 if (route, method) == ("api/v1/me", "PATCH") else expected(route, method, "project admin")


def for_another_project(route: str, method: str) -> int:
    return 404 if route.startswith(P) else for_one_project(route, method)


def reading_only(route: str, method: str) -> int:
    status = expected(route, method, "cloud admin")
    changes = method != "GET" and route not in PUBLIC_ROUTES and status not in {401, 405}
    return 403 if changes else status


def without_csrf(route: str, method: str) -> int:
    return in_a_browser("cloud admin")(route, method) if method == "GET" else reading_only(route, method)


def as_host(route: str, method: str) -> int:
    """Speaks the hosts' API and nothing else."""
    may, status = TABLE[route].get(method, ("nobody", 405))
    return status if may == HOST else expected(route, method, "bad token")


# identity → what it gets; how its client is made is in `clients`
IDENTITIES: dict[str, Wanted] = {
    "expired token": like("bad token"),
    "revoked token": like("bad token"),
    "token of a disabled user": like("bad token"),
    "token from before a new password": like("bad token"),
    "join token": like("bad token"),
    "Redis login of a host": like("bad token"),
    "console ticket": like("bad token"),
    "token of a removed host": like("bad token"),
    "ended session": like("anonymous"),
    "session from before a new password": like("anonymous"),
    "session": in_a_browser("cloud admin"),
    "session without a CSRF token": without_csrf,
    "user of single sign-on": in_a_browser("member"),
    "token": like("cloud admin"),
    "project token": for_one_project,
    "token of another project": for_another_project,
    "read-only token": reading_only,
    "token of somebody who left the project": like("other"),
    "host token": as_host,
}


@pytest.fixture
def made(api, world, settings) -> dict[str, Any]:
    """A client for each identity, made when it is asked for."""
    settings.API_RATE_PER_SECOND, settings.API_BURST = 1e6, 10**6
    browser = type(api)
    cloud_admin, project = User.objects.get(username="root"), Project.objects.get(name="demo")

    def token(user: User = cloud_admin, **fields: Any) -> str:
        return factories.token(user, **fields)

    def revoked() -> str:
        secret = token()
        accounts.revoke_token(token=Token.objects.get(digest=digest(secret)), actor=SYSTEM)
        return secret

    def of_a_disabled_user() -> str:
        user = factories.user(is_cloud_admin=True)
        secret = token(user)
        accounts.update_user(user=user, actor=SYSTEM, changes={"is_active": False})
        return secret

    def from_before_a_new_password() -> str:
        user = factories.user(is_cloud_admin=True)
        secret = token(user)
        accounts.update_user(user=user, actor=SYSTEM, changes={"password": "quite another one 17"})
        return secret

    def ticket() -> str:
        row = {"generation": 1, "kind": "vnc", "holder": "x", "expires_at": Now() + timedelta(minutes=5)}
        ConsoleTicket.objects.create(digest=digest("a-ticket"), instance=Instance.objects.get(name="web"), **row)
        return "a-ticket"

    def joined() -> tuple[Host, hosts.Credentials]:
        _, secret = hosts.make_join_token(actor=SYSTEM)
        return hosts.join(token=secret, name="node9", capacity=CAPACITY, capabilities={})

    def of_a_removed_host() -> str:
        host, credentials = joined()
        hosts.remove(host, actor=SYSTEM)
        return credentials.token

    def session(user: User = cloud_admin, *, csrf: bool = False) -> Any:
        client = browser(raise_request_exception=False, enforce_csrf_checks=csrf)
        client.force_login(user)
        return client

    def ended_session(end: Callable[[User], Any]) -> Any:
        user = factories.user(is_cloud_admin=True)
        client = session(user)
        end(user)
        return client

    def new_password(user: User) -> None:
        accounts.update_user(user=user, actor=SYSTEM, changes={"password": "quite another one 17"})

    def end_sessions(user: User) -> None:
        from django.contrib.sessions.models import Session

        Session.objects.all().delete()
        BrowserSession.objects.filter(user=user).delete()

    def of_single_sign_on() -> Any:
        user = factories.member(project, Role.MEMBER, "sso")
        user.set_unusable_password()
        user.save()
        return session(user)

    def left() -> str:
        user = factories.member(project, Role.ADMIN, "left")
        secret = token(user, project=None)
        Membership.objects.filter(user=user).delete()
        return secret

    elsewhere = factories.project("yonder")
    return {
        "expired token": lambda: token(expires_at=Now() - timedelta(seconds=1)),
        "revoked token": revoked,
        "token of a disabled user": of_a_disabled_user,
        "token from before a new password": from_before_a_new_password,
        "join token": lambda: hosts.make_join_token(actor=SYSTEM)[1],
        "Redis login of a host": lambda: joined()[1].redis_password,
        "console ticket": ticket,
        "token of a removed host": of_a_removed_host,
        "ended session": lambda: ended_session(end_sessions),
        "session from before a new password": lambda: ended_session(new_password),
        "session": session,
        "session without a CSRF token": lambda: session(csrf=True),
        "user of single sign-on": of_single_sign_on,
        "token": token,
        "project token": lambda: token(project=project),
        "token of another project": lambda: token(project=elsewhere),
        "read-only token": lambda: token(read_only=True),
        "token of somebody who left the project": left,
        "host token": lambda: joined()[1].token,
    }


CAPACITY = {"vcpus": 2, "memory_mib": 1024, "disk_gib": 10}


def test_every_identity_is_made_and_is_in_the_manual(made):
    assert made.keys() == IDENTITIES.keys()
    manual = (TREE / "docs/operating.md").read_text()
    for word in ("session", "API token", "project token", "read-only token", "join token", "host token", "Redis login",
                 "console ticket", "single sign-on"):  # fmt: skip
        assert f"| {word} |" in manual, word


@pytest.mark.parametrize("identity", IDENTITIES)
def test_it_gets_what_it_is_for_at_every_route(identity, api, world, made):
    references, _ = world
    with transaction.atomic():
        thing = made[identity]()
    client = api.as_(thing) if isinstance(thing, str) else thing
    wrong = []
    for number, route in enumerate(API_ROUTES):
        for method in TABLE[route]:
            with undone():
                answer = client.generic(
                    *(method, address(route, references), "{}"), content_type="application/json",
                    REMOTE_ADDR=f"2001:db9:{number:x}::1",
                )  # fmt: skip
            want = IDENTITIES[identity](route, method)
            if answer.status_code != want:
                wrong.append(f"{method} {route}: {answer.status_code} instead of {want}")
    assert not wrong, "\n".join(wrong)
