"""Every page × identity: who is let in where, and what it may contain."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, resolve

from cloud.operations.models import Operation
from cloud.pages.generic import ListPage
from cloud.tenancy.models import Project, Role, User
from cloud.urls import pages
from tests import factories
from tests.cloud.dashboard import networking, storing
from tests.cloud.dashboard.conftest import World, one_of_everything, sign_in

pytestmark = pytest.mark.django_db

IDENTITIES = ("anonymous", "other", "viewer", "member", "project admin", "cloud admin")
PUBLIC, SIGNED_IN, VIEWER, MEMBER = IDENTITIES[:4]
PROJECT_ADMIN, CLOUD_ADMIN = IDENTITIES[4:]
P = "projects/<str:project>"
I = f"{P}/instances/<uuid:instance>"  # noqa: E741
V = f"{P}/volumes/<uuid:volume>"
T = f"{P}/trash/<slug:kind>/<uuid:ident>"
N, R = f"{P}/networks/<uuid:network>", f"{P}/routers/<uuid:router>"
G, F = f"{P}/security-groups/<uuid:group>", f"{P}/floating-ips/<uuid:floating>"
# What is shown by GET, and who may see it. A page that is missing fails.
SHOWN: dict[str, str] = {
    "sign-in": PUBLIC,
    "notifications": SIGNED_IN,
    "account/security": SIGNED_IN,
    "account/second-factor": SIGNED_IN,
    "account/tokens": SIGNED_IN,
    "account/password": SIGNED_IN,
    "account/profile": SIGNED_IN,
    "palette": SIGNED_IN,
    "api/v1/docs": PUBLIC,
    "design": SIGNED_IN,
    "help": SIGNED_IN,
    "help/<slug:guide>": SIGNED_IN,
    "projects": SIGNED_IN,
    P: VIEWER,
    f"{P}/getting-started": VIEWER,
    f"{P}/trash": VIEWER,
    f"{P}/activity": VIEWER,
    f"{P}/costs": VIEWER,
    f"{P}/quota": VIEWER,
    f"{P}/members": VIEWER,
    f"{P}/settings": PROJECT_ADMIN,
    f"{P}/images": VIEWER,
    f"{P}/images/import": VIEWER,
    f"{P}/images/<uuid:image>": VIEWER,
    f"{P}/images/<uuid:image>/change": VIEWER,
    f"{P}/images/<uuid:image>/share": VIEWER,
    f"{P}/images/<uuid:image>/export": VIEWER,
    f"{P}/exports": VIEWER,
    f"{P}/exports/<uuid:export>/delete": MEMBER,
    f"{P}/images/<uuid:image>/delete": MEMBER,
    f"{P}/keypairs": VIEWER,
    f"{P}/keypairs/<uuid:keypair>/change": VIEWER,
    f"{P}/launch": VIEWER,
    f"{P}/instances": VIEWER,
    f"{P}/instances/selected": VIEWER,
    I: VIEWER,
    f"{I}/console": VIEWER,
    f"{I}/create-image": VIEWER,
    f"{I}/diagnose": VIEWER,
    f"{I}/log": VIEWER,
    f"{I}/placement": VIEWER,
    f"{I}/change": VIEWER,
    f"{P}/volumes": VIEWER,
    V: VIEWER,
    **{
        f"{V}/{verb}": VIEWER
        for verb in ("change", "resize", "retype", "snapshot", "back-up", "schedule-backups", "clone", "revert")
    },
    f"{V}/attach": VIEWER,
    f"{V}/restore-backup": VIEWER,
    f"{V}/create-image": VIEWER,
    f"{V}/move": CLOUD_ADMIN,
    f"{I}/move": CLOUD_ADMIN,
    f"{V}/delete": MEMBER,
    f"{P}/snapshots": VIEWER,
    f"{P}/snapshots/<uuid:snapshot>/change": VIEWER,
    f"{P}/snapshots/<uuid:snapshot>/create-image": VIEWER,
    f"{P}/snapshots/<uuid:snapshot>/delete": MEMBER,
    f"{P}/backups": VIEWER,
    f"{P}/backups/<uuid:backup>/change": VIEWER,
    f"{P}/backups/<uuid:backup>/restore": VIEWER,
    f"{P}/backups/<uuid:backup>/delete": MEMBER,
    f"{P}/networks": VIEWER,
    N: VIEWER,
    f"{N}/change": VIEWER,
    f"{N}/delete": MEMBER,
    f"{P}/subnets": VIEWER,
    f"{P}/subnets/<uuid:subnet>/change": VIEWER,
    f"{P}/subnets/<uuid:subnet>/delete": MEMBER,
    f"{P}/ports": VIEWER,
    f"{P}/ports/<uuid:port>/change": VIEWER,
    f"{P}/ports/<uuid:port>/delete": MEMBER,
    f"{P}/routers": VIEWER,
    R: VIEWER,
    f"{R}/change": VIEWER,
    f"{R}/delete": MEMBER,
    f"{P}/security-groups": VIEWER,
    G: VIEWER,
    f"{G}/change": VIEWER,
    f"{G}/delete": MEMBER,
    f"{P}/floating-ips": VIEWER,
    f"{F}/change": VIEWER,
    f"{F}/associate": VIEWER,
    f"{F}/delete": MEMBER,
    f"{P}/port-forwards": VIEWER,
    f"{P}/port-forwards/<uuid:forward>/change": VIEWER,
    f"{P}/port-forwards/<uuid:forward>/delete": MEMBER,
    "cloud/address-pools": CLOUD_ADMIN,
    "cloud/address-pools/<uuid:pool>/change": CLOUD_ADMIN,
    "cloud/address-pools/<uuid:pool>/delete": CLOUD_ADMIN,
    "cloud": CLOUD_ADMIN,
    "cloud/health": CLOUD_ADMIN,
    "cloud/instances": CLOUD_ADMIN,
    "cloud/capacity": CLOUD_ADMIN,
    "cloud/hosts/<uuid:host>/cordon": CLOUD_ADMIN,
    "cloud/hosts": CLOUD_ADMIN,
    "cloud/hosts/new": CLOUD_ADMIN,
    "cloud/hosts/<uuid:host>": CLOUD_ADMIN,
    "cloud/hosts/<uuid:host>/settings": CLOUD_ADMIN,
    "cloud/hosts/<uuid:host>/declare-lost": CLOUD_ADMIN,
    "cloud/volume-types": CLOUD_ADMIN,
    "cloud/hosts/<uuid:host>/drain": CLOUD_ADMIN,
    "cloud/volume-types/<uuid:volume_type>": CLOUD_ADMIN,
    "cloud/flavors": CLOUD_ADMIN,
    "cloud/flavors/<uuid:flavor>": CLOUD_ADMIN,
    "cloud/projects": CLOUD_ADMIN,
    "cloud/projects/<uuid:ident>": CLOUD_ADMIN,
    "cloud/quota-requests": CLOUD_ADMIN,
    "cloud/users": CLOUD_ADMIN,
    "cloud/users/<uuid:user>": CLOUD_ADMIN,
    "cloud/operations": CLOUD_ADMIN,
    "cloud/audit": CLOUD_ADMIN,
}
# What only changes something (POST), or only sends somebody on: the tests of each subject have them.
NOT_SHOWN = {
    "cloud/hosts/<uuid:host>/drain/cancel",
    "", "sign-out", "theme", "account/tokens/<uuid:token>/revoke", f"{P}/members/<uuid:user>",
    f"{P}/instances/views", f"{P}/instances/views/<uuid:view>", f"{P}/instances/views/<uuid:view>/forget",
    "cloud/hosts/join-tokens/<uuid:token>/revoke",
    f"{P}/keypairs/<uuid:keypair>/delete", f"{P}/launch/preview", f"{P}/operations/<uuid:operation>/cancel",
    "sign-in/single", "sign-in/single/<str:provider_id>", "account/single-sign-on/<int:ident>/forget",
    "sign-in/second-factor", "account/sessions/end", "account/sessions/<uuid:ident>/end",
    "cloud/users/<uuid:user>/second-factor", "cloud/health/<uuid:ident>/repair",
    f"{P}/quota/<uuid:ident>/withdraw", "cloud/quota-requests/<uuid:ident>",
    f"{I}/<verb:verb>", f"{I}/open-ssh", "cloud/hosts/<uuid:host>/change", "cloud/flavors/<uuid:flavor>/delete",
    f"{V}/unschedule-backups", f"{P}/backups/<uuid:backup>/drill",
    "cloud/volume-types/<uuid:volume_type>/make-default", "cloud/volume-types/<uuid:volume_type>/delete",
    f"{R}/subnets/<uuid:subnet>/detach", f"{G}/rules/<uuid:rule>/remove", f"{F}/disassociate",
    f"{T}/restore", f"{T}/purge",
    *(f"{P}/images/<uuid:image>/{verb}" for verb in ("deprecate", "unshare", "publish")),
    # Asks about what is selected: tests/cloud/dashboard/test_bulk.py
    *(f"{P}/{kind}/selected" for kind in (
        "keypairs", "images", "exports", "volumes", "snapshots", "backups", "networks", "subnets", "ports", "routers",
        "security-groups", "floating-ips", "port-forwards",
    )),
    "cloud/instances/selected", "cloud/flavors/selected", "cloud/volume-types/selected", "cloud/address-pools/selected",
}  # fmt: skip
NETWORKING = tuple(
    f"{P}/{kind}"
    for kind in ("networks", "subnets", "ports", "routers", "security-groups", "floating-ips", "port-forwards")
)
STORING = (f"{P}/volumes", f"{P}/snapshots", f"{P}/exports", f"{P}/backups")
ONLY_READ = (V, f"{P}/snapshots", f"{P}/backups")
# Changing needs more than looking: method POST with an empty form, by the least powerful who may not.
REFUSED_TO_CHANGE = {
    f"{P}/members": "member",
    f"{P}/costs": "member",
    f"{P}/quota": "viewer",
    f"{P}/quota/<uuid:ident>/withdraw": "viewer",
    "cloud/quota-requests/<uuid:ident>": "project admin",
    "cloud/health/<uuid:ident>/repair": "project admin",
    "cloud/users/<uuid:user>/second-factor": "project admin",
    f"{P}/settings": "member",
    "cloud/hosts/join-tokens/<uuid:token>/revoke": "project admin",
    f"{P}/keypairs": "viewer",
    f"{P}/keypairs/<uuid:keypair>/change": "viewer",
    f"{P}/launch": "viewer",
    f"{P}/launch/preview": "viewer",
    f"{P}/instances/selected": "viewer",
    f"{I}/change": "viewer",
    f"{I}/create-image": "viewer",
    f"{I}/diagnose": "viewer",
    f"{I}/<verb:verb>": "viewer",
    f"{I}/open-ssh": "viewer",
    f"{P}/operations/<uuid:operation>/cancel": "viewer",
    f"{P}/members/<uuid:user>": "member",
    f"{P}/keypairs/<uuid:keypair>/delete": "viewer",
    **{route: "viewer" for route in SHOWN if route.startswith(NETWORKING)},
    **{route: "viewer" for route in SHOWN if route.startswith(STORING) and route not in ONLY_READ},
    f"{T}/restore": "viewer",
    f"{T}/purge": "viewer",
    f"{R}/subnets/<uuid:subnet>/detach": "viewer",
    f"{G}/rules/<uuid:rule>/remove": "viewer",
    f"{F}/disassociate": "viewer",
    f"{P}/images/import": "viewer",
    **{
        f"{P}/images/<uuid:image>/{verb}": "viewer"
        for verb in ("change", "share", "delete", "deprecate", "unshare", "publish")
    },
    **{route: "project admin" for route, least in SHOWN.items() if least == CLOUD_ADMIN},
    "cloud/hosts/<uuid:host>/change": "project admin",
    "cloud/hosts/<uuid:host>/drain/cancel": "project admin",
    "cloud/flavors/<uuid:flavor>/delete": "project admin",
    "cloud/volume-types/<uuid:volume_type>/make-default": "project admin",
    "cloud/volume-types/<uuid:volume_type>/delete": "project admin",
}


def routes(patterns: Iterable[URLPattern | URLResolver] = pages) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns)
        else:
            yield str(pattern.pattern)


@pytest.fixture(scope="module")
def world(rows_of_module) -> World:
    """One for all tests of the module: to make it takes longer than to look at a page of it."""
    return one_of_everything(factories.project("demo"))


@pytest.fixture(scope="module")
def users(world) -> dict[str, User | None]:
    return users_of(world.project)


def users_of(project: Project) -> dict[str, User | None]:
    """Somebody of each identity."""
    known = (
        None,
        factories.member(factories.project("elsewhere"), Role.ADMIN, "otto"),
        factories.member(project, Role.VIEWER, "vera"),
        factories.member(project, Role.MEMBER, "mia"),
        factories.member(project, Role.ADMIN, "ada"),
        factories.user("root", is_cloud_admin=True),
    )
    return dict(zip(IDENTITIES, known, strict=True))


@pytest.fixture(scope="module")
def people(users) -> dict[str, Any]:
    return {name: sign_in(user) for name, user in users.items()}


@pytest.fixture(scope="module")
def path_to(world, users) -> Callable[[str], str]:
    known = {
        **ids_of(world, users["member"]),
        **networking.one_of_each(world.project),
        **storing.one_of_each(world.project),
    }
    return lambda route: fill_in(route, known)


def ids_of(world: World, user: User) -> dict[str, Any]:
    """What routes name, but for networks and volumes."""
    operation = Operation.objects.first()
    return {
        "project": world.project.name, "instance": world.instance.pk, "host": world.host.pk, "flavor": world.flavor.pk,
        "ident": world.project.pk, "user": user.pk, "keypair": world.keypair.pk, "operation": operation.pk,
        "verb": "stop", "volume_type": factories.volume_type().pk, "kind": "instance", "token": world.keypair.pk,
        "image": factories.image(project=world.project).pk, "guide": "networks",
    }  # fmt: skip


def is_of_networks(route: str) -> bool:
    return route.startswith((*NETWORKING, "cloud/address-pools"))


def fill_in(route: str, known: dict[str, Any]) -> str:
    """The path of a route, with what its page needs in its query."""
    needs = {f"{P}/instances/selected": f"?verb=stop&item={known['instance']}"}
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda part: str(known[part[1]]), route) + needs.get(route, "")


def test_every_page_is_in_the_table():
    assert {*SHOWN, *NOT_SHOWN} == set(routes())


def test_a_name_in_an_address_leads_to_its_page(people, path_to):
    """Of everything that has one, and is in a list. Who may not see it is told what others are told of nothing."""
    admin, tried = people["cloud admin"], set()
    for route in SHOWN:
        page = getattr(resolve(path_to(route).partition("?")[0]).func, "view_class", None)
        if not (page and issubclass(page, ListPage)):
            continue
        columns = {field.name for field in page.model._meta.get_fields()} & {"name", "username"}
        item = page.model.objects.exclude(name="").first() if "name" in columns else page.model.objects.first()
        if not columns or item is None:
            continue
        address = f"{path_to(route)}/{item.name if 'name' in columns else item.username}"
        there = admin.get(address)
        if there.status_code == 200:  # projects go by their names
            continue
        assert there.status_code == 303, address
        assert str(item.pk) in there["Location"] or "?q=" in there["Location"]
        assert admin.get(there["Location"]).status_code == 200, there["Location"]
        is_of_project = route.startswith(P)
        assert people["viewer" if is_of_project else "project admin"].get(address).status_code == (
            303 if is_of_project else 403
        )
        assert people["other"].get(address).status_code == (404 if is_of_project else 403)
        tried.add(route.removeprefix(f"{P}/"))
    assert {
        "instances",
        "volumes",
        "snapshots",
        "images",
        "keypairs",
        "networks",
        "cloud/flavors",
        "cloud/hosts",
    } <= tried


def test_a_name_may_stand_in_the_middle_of_an_address(people, world):
    member, web = people["member"], f"/projects/demo/instances/{world.instance.pk}"
    for address in ("/demo/instances/web/console", "/projects/demo/instances/web/console?kind=vnc"):
        query = address.partition("?")[1:]
        assert member.get(address)["Location"] == f"{web}/console{''.join(query)}"
    assert member.get("/demo/instances/web/nonsense")["Location"] == web
    for nowhere in (
        "/demo/instances/nothing",
        "/nobody/instances",
        "/cloud/nothing/web",
        "/demo/quota/web",
        "/demo/instances/a%00b",
    ):
        assert member.get(nowhere).status_code == 404, nowhere
    for short in (
        "/demo/instances",
        "/demo/instances/",
        "/demo/launch",
        "/demo",
        f"/demo/instances/{world.instance.pk}",
    ):
        assert member.get(short)["Location"] == f"/projects{short.rstrip('/')}"
    assert people["other"].get("/demo/instances").status_code == 404
    assert member.post("/demo/instances/web").status_code == 404
    assert people["anonymous"].get("/projects/demo/instances/web")["Location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("route", SHOWN)
def test_who_may_look(route, people, path_to):
    least = SHOWN[route]
    for rank, (identity, client) in enumerate(people.items()):
        answer = client.get(path_to(route))
        if identity == "anonymous" and least != PUBLIC:
            assert answer.status_code == 302, identity
            assert answer["Location"].startswith("/sign-in?next=")
        elif rank < IDENTITIES.index(least):
            is_of_cloud = least == CLOUD_ADMIN and not route.startswith(P)
            is_seen = is_of_cloud or identity in ("viewer", "member", "project admin")
            assert answer.status_code == (403 if is_seen else 404), identity
        else:
            assert answer.status_code == (303 if route == "sign-in" and identity != "anonymous" else 200), identity


@pytest.mark.parametrize("route", [route for route, least in SHOWN.items() if least != PUBLIC])
def test_a_part_of_a_page_that_may_not_be_seen_any_more_has_the_whole_page_looked_at(route, people, path_to):
    """Otherwise a page that is open would have another page in the middle of it. Whoever is signed out keeps theirs."""
    for identity in ("anonymous", "other"):
        answer = people[identity].get(path_to(route), headers={"HX-Target": "some-part"})
        if answer.status_code != 200:
            is_signed_out = identity == "anonymous"
            assert answer.status_code == 401 if is_signed_out else answer.status_code in (403, 404)
            assert answer.content == b""
            assert answer["HX-Reswap"] == "none" if is_signed_out else answer["HX-Refresh"] == "true"


def test_a_form_that_is_being_filled_in_stays_when_its_session_has_ended(people, path_to):
    answer = people["anonymous"].post(path_to(f"{P}/launch/preview"), {"name": "x"}, headers={"HX-Target": "preview"})
    assert (answer.status_code, answer["HX-Reswap"], answer.get("HX-Refresh")) == (401, "none", None)


@pytest.mark.parametrize("route", REFUSED_TO_CHANGE)
def test_who_may_not_change(route, people, path_to):
    rank = IDENTITIES.index(REFUSED_TO_CHANGE[route])
    for identity, client in list(people.items())[: rank + 1]:
        answer = client.post(path_to(route), {"name": "x"})
        assert answer.status_code in ({302} if identity == "anonymous" else {403, 404, 405}), identity


@pytest.mark.parametrize("route", SHOWN)
def test_a_page_has_nothing_that_its_policy_forbids(route, people, path_to):
    answer = people["anonymous" if route == "sign-in" else "cloud admin"].get(path_to(route))
    text = answer.content.decode()
    assert not re.search(r"\s(style|on\w+)=", text)
    assert not re.search(r"<(style|script)(?![^>]*\bsrc=)", text)
    assert not re.search(r"""(src|href)=["'](https?:)?//""", text)
    assert "unsafe-inline" not in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "DENY"
