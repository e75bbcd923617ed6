"""Every route × method × identity: who is let in where. A route that is missing from the table fails."""

import itertools
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.urls import URLPattern, get_resolver

from cloud.events.services import SYSTEM, Actor
from cloud.hosts import services as hosts
from cloud.operations import engine
from cloud.operations.models import Check
from cloud.tenancy import new_projects, quota_requests
from cloud.tenancy.models import Project, Role
from compute.models import Instance
from compute.verbs import VERBS
from compute.workflows import LaunchInstance
from network.services import address_pools, floating_ips, port_forwards, ports
from storage.models import ImageExport
from storage.services import volumes
from tests import factories
from tests.conftest import Client
from tests.good_requests import finish
from tests.rows import undone
from tests.storage import good_requests

pytestmark = pytest.mark.django_db

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# From the least to the most powerful. `other` is admin of another project.
PLACES = itertools.count(1)
IDENTITIES = ("anonymous", "bad token", "other", "viewer", "member", "project admin", "cloud admin")
PUBLIC, SIGNED_IN, VIEWER, MEMBER, PROJECT_ADMIN, CLOUD_ADMIN, HOST = (
    "public", "signed in", "viewer", "member", "project admin", "cloud admin", "host",
)  # fmt: skip

P = "api/v1/projects/<str:project>"
# Of an instance that waits for room; other verbs are refused there.
OF_VERBS = {
    "start": 202, "stop": 202, "clone": 400, "snapshot": 400, "resize": 400, "attach-nic": 400, "detach-nic": 400,
}  # fmt: skip
# route → method → (who may, what they get for an empty body)
TABLE: dict[str, dict[str, tuple[str, int]]] = {
    "healthz": {"GET": (PUBLIC, 200)},
    "readyz": {"GET": (PUBLIC, 200)},
    "metrics": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/schema": {"GET": (PUBLIC, 200)},
    "api/v1/docs": {"GET": (PUBLIC, 200)},
    "api/v1/me": {"GET": (SIGNED_IN, 200), "PATCH": (SIGNED_IN, 200)},
    "api/v1/users": {"GET": (CLOUD_ADMIN, 200), "POST": (CLOUD_ADMIN, 400)},
    "api/v1/users/<str:ref>": {"GET": (CLOUD_ADMIN, 200), "PATCH": (CLOUD_ADMIN, 200), "DELETE": (CLOUD_ADMIN, 204)},
    "api/v1/users/<str:ref>/second-factor": {"DELETE": (CLOUD_ADMIN, 409)},
    "api/v1/notifications": {"GET": (SIGNED_IN, 200)},
    "api/v1/notifications/seen": {"POST": (SIGNED_IN, 200)},
    "api/v1/sessions": {"GET": (SIGNED_IN, 200)},
    "api/v1/sessions/<str:ref>": {"GET": ("owner", 404), "DELETE": ("owner", 404)},
    "api/v1/tokens": {"GET": (SIGNED_IN, 200), "POST": (SIGNED_IN, 400)},
    "api/v1/tokens/<str:ref>": {"GET": ("owner", 404), "DELETE": ("owner", 404)},
    "api/v1/projects": {"GET": (SIGNED_IN, 200), "POST": (CLOUD_ADMIN, 400)},
    P: {"GET": (VIEWER, 200), "PATCH": (PROJECT_ADMIN, 200), "DELETE": (CLOUD_ADMIN, 409)},
    f"{P}/members": {"GET": (VIEWER, 200), "POST": (PROJECT_ADMIN, 400)},
    f"{P}/members/<str:ref>": {
        "GET": (VIEWER, 200), "PATCH": (PROJECT_ADMIN, 200), "DELETE": (PROJECT_ADMIN, 204),
    },
    f"{P}/saved-views": {"GET": (VIEWER, 200), "POST": (VIEWER, 400)},
    f"{P}/saved-views/<str:ref>": {"GET": ("owner", 404), "PATCH": ("owner", 404), "DELETE": ("owner", 404)},
    f"{P}/quota": {"GET": (VIEWER, 200), "PATCH": (CLOUD_ADMIN, 200)},
    f"{P}/quota-requests": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/quota-requests/<str:ref>": {"GET": (VIEWER, 200)},
    f"{P}/quota-requests/<str:ref>/withdraw": {"POST": (MEMBER, 200)},
    "api/v1/health": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/checks": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/checks/<str:ref>": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/checks/<str:ref>/repair": {"POST": (CLOUD_ADMIN, 409)},
    "api/v1/capacity": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/quota-requests": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/quota-requests/<str:ref>": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/quota-requests/<str:ref>/approve": {"POST": (CLOUD_ADMIN, 200)},
    "api/v1/quota-requests/<str:ref>/decline": {"POST": (CLOUD_ADMIN, 400)},
    f"{P}/operations": {"GET": (VIEWER, 200)},
    f"{P}/operations/<str:ref>": {"GET": (VIEWER, 200)},
    f"{P}/operations/<str:ref>/cancel": {"POST": (MEMBER, 202)},
    "api/v1/events": {"GET": (CLOUD_ADMIN, 200)},
    f"{P}/events": {"GET": (VIEWER, 200)},
    "api/v1/hosts": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/hosts/join-tokens": {"GET": (CLOUD_ADMIN, 200), "POST": (CLOUD_ADMIN, 201)},
    "api/v1/hosts/join-tokens/<str:ref>": {"GET": (CLOUD_ADMIN, 200), "DELETE": (CLOUD_ADMIN, 204)},
    "api/v1/hosts/<str:ref>": {"GET": (CLOUD_ADMIN, 200), "PATCH": (CLOUD_ADMIN, 200), "DELETE": (CLOUD_ADMIN, 204)},
    "api/v1/hosts/<str:ref>/metrics": {"GET": (CLOUD_ADMIN, 200)},
    "api/v1/hosts/<str:ref>/enable": {"POST": (CLOUD_ADMIN, 200)},
    "api/v1/hosts/<str:ref>/cordon": {"POST": (CLOUD_ADMIN, 200)},
    "api/v1/hosts/<str:ref>/declare-lost": {"POST": (CLOUD_ADMIN, 400)},
    "api/v1/flavors": {"GET": (SIGNED_IN, 200), "POST": (CLOUD_ADMIN, 400)},
    "api/v1/flavors/<str:ref>": {"GET": (SIGNED_IN, 200), "PATCH": (CLOUD_ADMIN, 200), "DELETE": (CLOUD_ADMIN, 409)},
    f"{P}/keypairs": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/keypairs/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 204)},
    "api/v1/instances": {"GET": (CLOUD_ADMIN, 200)},
    f"{P}/instances": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/instances/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 202)},
    **{f"{P}/instances/<str:ref>/{verb.name}": {"POST": (MEMBER, OF_VERBS.get(verb.name, 409))}
       for verb in VERBS.values() if verb.method == "POST"},
    f"{P}/instances/<str:ref>/console-log": {"GET": (VIEWER, 200)},
    f"{P}/instances/<str:ref>/boot": {"GET": (VIEWER, 200)},
    f"{P}/instances/<str:ref>/diagnose-connection": {"POST": (VIEWER, 400)},
    f"{P}/instances/<str:ref>/metrics": {"GET": (VIEWER, 200)},
    f"{P}/instances/<str:ref>/placement": {"GET": (VIEWER, 200)},
    f"{P}/cost": {"GET": (VIEWER, 200)},
    f"{P}/budget": {"GET": (VIEWER, 200), "PATCH": (PROJECT_ADMIN, 400)},
    f"{P}/instance-actions": {"POST": (MEMBER, 400)},
    f"{P}/instances/<str:ref>/console": {"POST": (MEMBER, 400)},
    "api/v1/consoles/<str:ticket>": {"GET": (SIGNED_IN, 400)},
    f"{P}/instances/<str:ref>/create-image": {"POST": (MEMBER, 400)},
    f"{P}/snapshots/<str:ref>/create-image": {"POST": (MEMBER, 400)},
    f"{P}/volumes/<str:ref>/create-image": {"POST": (MEMBER, 400)},
    f"{P}/images": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/images/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 200)},
    f"{P}/images/<str:ref>/export": {"POST": (MEMBER, 400)},
    f"{P}/exports": {"GET": (VIEWER, 200)},
    f"{P}/exports/<str:ref>": {"GET": (VIEWER, 200), "DELETE": (MEMBER, 202)},
    f"{P}/exports/<str:ref>/content": {"GET": (VIEWER, 409)},
    f"{P}/images/<str:ref>/share": {"POST": (MEMBER, 400)},
    f"{P}/images/<str:ref>/unshare": {"POST": (MEMBER, 400)},
    f"{P}/images/<str:ref>/publish": {"POST": (CLOUD_ADMIN, 400)},
    f"{P}/images/<str:ref>/file": {"PUT": (MEMBER, 409)},
    f"{P}/images/<str:ref>/upload/file": {"PATCH": (MEMBER, 415), "DELETE": (MEMBER, 409)},
    f"{P}/uploads": {"POST": (MEMBER, 409)},
    f"{P}/volumes": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/volumes/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 409)},
    **{f"{P}/volumes/<str:ref>/{verb}": {"POST": (MEMBER, 400)}
       for verb in ("resize", "retype", "snapshot", "clone", "revert")},
    f"{P}/volumes/<str:ref>/move": {"POST": (CLOUD_ADMIN, 409)},
    "api/v1/hosts/<str:ref>/drain": {"GET": (CLOUD_ADMIN, 200), "POST": (CLOUD_ADMIN, 202)},
    "api/v1/hosts/<str:ref>/drain/cancel": {"POST": (CLOUD_ADMIN, 404)},
    f"{P}/instances/<str:ref>/move": {"POST": (CLOUD_ADMIN, 409)},
    "api/v1/volume-types": {"GET": (SIGNED_IN, 200), "POST": (CLOUD_ADMIN, 400)},
    "api/v1/volume-types/<str:ref>": {
        "GET": (SIGNED_IN, 200), "PATCH": (CLOUD_ADMIN, 200), "DELETE": (CLOUD_ADMIN, 409),
    },
    f"{P}/volumes/<str:ref>/backup": {"POST": (MEMBER, 400)},
    f"{P}/volumes/<str:ref>/restore-backup": {"POST": (MEMBER, 400)},
    f"{P}/volumes/<str:ref>/schedule-backups": {"POST": (MEMBER, 400)},
    f"{P}/volumes/<str:ref>/unschedule-backups": {"POST": (MEMBER, 200)},
    f"{P}/backups": {"GET": (VIEWER, 200)},
    f"{P}/backups/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 202)},
    f"{P}/backups/<str:ref>/restore": {"POST": (MEMBER, 400)},
    f"{P}/backups/<str:ref>/drill": {"POST": (MEMBER, 202)},
    **{f"{P}/{kind}/<str:ref>/{verb}": {"POST": (MEMBER, 409)}
       for kind in ("instances", "volumes", "images") for verb in ("restore", "purge")},
    f"{P}/snapshots": {"GET": (VIEWER, 200)},
    f"{P}/snapshots/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 204)},
    f"{P}/networks": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/networks/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 409)},
    f"{P}/subnets": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/subnets/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 409)},
    f"{P}/ports": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/ports/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 409)},
    f"{P}/routers": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/routers/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 409)},
    f"{P}/routers/<str:ref>/attach-subnet": {"POST": (MEMBER, 400)},
    f"{P}/routers/<str:ref>/detach-subnet": {"POST": (MEMBER, 400)},
    f"{P}/security-groups": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/security-groups/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 409)},
    f"{P}/security-groups/<str:group>/rules": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/security-groups/<str:group>/rules/<str:ref>": {"GET": (VIEWER, 200), "DELETE": (MEMBER, 204)},
    f"{P}/floating-ips": {"GET": (VIEWER, 200), "POST": (MEMBER, 201)},
    f"{P}/floating-ips/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 409)},
    f"{P}/floating-ips/<str:ref>/associate": {"POST": (MEMBER, 400)},
    f"{P}/floating-ips/<str:ref>/disassociate": {"POST": (MEMBER, 200)},
    f"{P}/port-forwards": {"GET": (VIEWER, 200), "POST": (MEMBER, 400)},
    f"{P}/port-forwards/<str:ref>": {"GET": (VIEWER, 200), "PATCH": (MEMBER, 200), "DELETE": (MEMBER, 204)},
    "api/v1/address-pools": {"GET": (SIGNED_IN, 200), "POST": (CLOUD_ADMIN, 400)},
    "api/v1/address-pools/<str:ref>": {
        "GET": (SIGNED_IN, 200), "PATCH": (CLOUD_ADMIN, 200), "DELETE": (CLOUD_ADMIN, 409),
    },
    "agent/v1/join": {"POST": (PUBLIC, 400)},
    "agent/v1/heartbeat": {"POST": (HOST, 400)},
    "agent/v1/claim": {"POST": (HOST, 200)},
    "agent/v1/orders/<uuid:order_id>/renew": {"POST": (HOST, 400)},
    "agent/v1/report": {"POST": (HOST, 400)},
    "agent/v1/reports": {"POST": (HOST, 400)},
    "agent/v1/stream": {"GET": (HOST, 400)},
    "agent/v1/files/<str:sha256>": {"GET": (HOST, 404)},
    "agent/v1/files/<str:sha256>/turn": {"PUT": (HOST, 404), "PATCH": (HOST, 404), "POST": (HOST, 404)},
    "agent/v1/serving": {"GET": (HOST, 200)},
    "agent/v1/uploads/<uuid:row_id>": {"GET": (HOST, 404)},
    "agent/v1/imports/<uuid:row_id>/progress": {"PUT": (HOST, 404)},
    "agent/v1/imports/<uuid:row_id>/files/<int:index>": {"PUT": (HOST, 404)},
    "agent/v1/merges/<uuid:layer_id>/progress": {"PUT": (HOST, 404)},
    "agent/v1/backups/<uuid:row_id>": {"GET": (HOST, 404)},
    "agent/v1/backups/<uuid:row_id>/parts/<int:number>": {"PUT": (HOST, 404)},
    "agent/v1/backups/<uuid:row_id>/files/<int:index>": {"PUT": (HOST, 404)},
    **{f"agent/v1/{work}/<uuid:layer_id>{more}": {"GET": (HOST, 404)}
       for work in ("restores", "drills") for more in ("", "/parts/<int:number>", "/blocks/<str:digest>")},
    "agent/v1/transfers/<uuid:transfer_id>": {"GET": (HOST, 404)},
    "agent/v1/transfers/<uuid:transfer_id>/contents": {"PUT": (HOST, 404)},
    "agent/v1/transfers/<uuid:transfer_id>/files/<int:number>": {"GET": (HOST, 404), "PUT": (HOST, 404)},
    "agent/v1/transfers/<uuid:transfer_id>/fetched": {"PUT": (HOST, 404)},
    "agent/v1/samples": {"POST": (HOST, 400)},
    "agent/v1/console-logs/<uuid:instance_id>": {"PUT": (HOST, 404)},
}  # fmt: skip


def routes() -> list[str]:
    def walk(patterns: list[Any], prefix: str) -> Iterator[str]:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLPattern):
                yield route
            else:
                yield from walk(pattern.url_patterns, route)

    return list(walk(get_resolver().url_patterns, ""))


API_ROUTES = [route for route in routes() if re.match(r"(api|agent)/|(healthz|readyz|metrics)$", route)]
PAGES = [route for route in routes() if route not in API_ROUTES]


@pytest.fixture(scope="module")
def world(rows_of_module):
    """One of everything, and a client for every identity."""
    api, project = Client(raise_request_exception=False), factories.project("demo")
    viewer = factories.member(project, Role.VIEWER, "vera")
    member = factories.member(project, Role.MEMBER, "mia")
    project_admin = factories.member(project, Role.ADMIN, "ada")
    cloud_admin = factories.user("root", is_cloud_admin=True)
    other_tenant = factories.member(factories.project("elsewhere"), Role.ADMIN, "otto")
    host = factories.host("node")
    flavor, image = factories.flavor("small"), factories.image("tiny")
    factories.image("mine", project=project)
    instance = Instance.objects.create(
        project=project, name="web", flavor=flavor, vcpus=1, memory_mib=256, disk_gib=1, image=image, created_by="mia"
    )
    operation = engine.start(LaunchInstance, instance, actor=Actor("mia"))
    project.keypairs.create(name="laptop", public_key="ssh-ed25519 AAAA", fingerprint="SHA256:x")
    join_token, _ = hosts.make_join_token(actor=SYSTEM)
    check = Check.objects.create(name="a check", code="I6", promise="it holds")
    with transaction.atomic():
        asked = quota_requests.ask(project=project, actor=Actor("mia"), limits={"vcpus": 80})
    references = {
        "members": "vera", "users": "vera", "instances": "web", "keypairs": "laptop", "images": "mine",
        "flavors": "small", "hosts": "node", "operations": str(operation.pk), "join-tokens": str(join_token.pk),
        "tokens": "nothing", "quota-requests": str(asked.pk), "saved-views": "nothing", "sessions": "nothing",
        "checks": str(check.pk), "exports": str(export_of(project).pk), **networks_of(project), **volumes_of(project),
    }  # fmt: skip
    clients = {
        "anonymous": api.as_(None),
        "bad token": api.as_("pileus-no-such-token"),
        "other": api.as_(other_tenant),
        "viewer": api.as_(viewer),
        "member": api.as_(member),
        "project admin": api.as_(project_admin),
        "cloud admin": api.as_(cloud_admin),
    }
    assert host.pk
    return references, clients


def networks_of(project: Project) -> dict[str, str]:
    """What every project begins with, a port, and a way to it from outside."""
    mia = Actor("mia")
    with transaction.atomic():
        new_projects.furnish(project, mia)
        port = ports.create(network=project.networks.get(), actor=mia, name="plug")
        pool = address_pools.create(actor=mia, name="outside", cidr="203.0.113.0/24")
        floating = floating_ips.create(project=project, actor=mia, pool=pool, name="door")
        port_forwards.create(port=port, actor=mia, target_port=22, floating_ip=floating, listen_port=22, name="ssh")
        rule = project.security_groups.get().rules.first()
    named = dict.fromkeys(("networks", "subnets", "routers", "security-groups"), "default")
    leg = project.ports.get(holder_type="router")
    others = {"ports": leg.name, "address-pools": "outside", "floating-ips": "door", "port-forwards": "ssh"}
    return {**named, **others, "rules": str(rule.pk)}


def volumes_of(project: Project) -> dict[str, str]:
    """A volume with a snapshot, which is nowhere yet."""
    mia = Actor("mia")
    with transaction.atomic():
        volume = volumes.create(project=project, actor=mia, name="data", size_gib=1)
        volumes.snapshot(volume=volume, actor=mia, name="before")
    finish("volume")
    backup = good_requests.backup(project)
    return {"volumes": "data", "snapshots": "before", "volume-types": "standard", "backups": backup.name}


def export_of(project: Project) -> ImageExport:
    """One that is being made."""
    image = {"id": str(uuid4()), "name": "tiny", "version": ""}
    return ImageExport.objects.create(
        project=project, name="tiny.vdi", format="vdi", image=image, sources=[], size_gib=1, created_by="mia"
    )


def address(route: str, references: dict[str, str]) -> str:
    path = route.replace("<str:project>", "demo").replace("<str:group>", references["security-groups"])
    if "<str:ref>" in path:
        kind = path.split("/<str:ref>")[0].rsplit("/", 1)[1]
        path = path.replace("<str:ref>", references[kind])
    path = path.replace("<int:index>", "0").replace("<int:number>", "0")
    path = re.sub(r"<uuid:\w+>", "6f7b0b0e-0000-4000-8000-000000000000", path)
    return "/" + re.sub(r"<str:\w+>", "0" * 64, path)


def expected(route: str, method: str, identity: str) -> int:
    methods = TABLE[route]
    known = identity not in ("anonymous", "bad token")
    if route.startswith("agent/") and HOST in {may for may, _ in methods.values()}:
        return 401
    who, status = methods.get(method, ("nobody", 405))
    if who == PUBLIC or (who == "nobody" and any(may == PUBLIC for may, _ in methods.values())):
        return status
    if who == "nobody" and not route.startswith(("api/", "agent/")):
        return 405
    if not known:
        return 401
    if route.startswith(P) and identity == "other":
        return 404
    if who == "nobody":
        return 405
    allowed = {
        SIGNED_IN: IDENTITIES[2:], "owner": IDENTITIES[2:], VIEWER: IDENTITIES[3:], MEMBER: IDENTITIES[4:],
        PROJECT_ADMIN: IDENTITIES[5:], CLOUD_ADMIN: IDENTITIES[6:], HOST: (),
    }[who]  # fmt: skip
    return status if identity in allowed else 403


def test_every_route_is_in_the_table():
    assert set(API_ROUTES) == set(TABLE)


@pytest.fixture(autouse=True)
def many_requests(settings):
    """Those who ask are the same in all tests."""
    settings.API_RATE_PER_SECOND, settings.API_BURST = 1e6, 10**6


@pytest.mark.parametrize("route", API_ROUTES)
def test_everybody_gets_what_the_table_says(route, world):
    references, clients = world
    wrong = []
    for identity in IDENTITIES:
        for method in METHODS:
            with undone():
                answer = clients[identity].generic(
                    *(method, address(route, references), "{}"),
                    content_type="application/json",
                    REMOTE_ADDR=f"2001:db8:{next(PLACES):x}::1",  # limits count by address
                )
            want = expected(route, method, identity)
            if answer.status_code != want:
                wrong.append(f"{method} as {identity}: {answer.status_code} instead of {want}")
            if answer.status_code >= 400 and route.startswith(("api/", "agent/")):
                assert answer.headers["Content-Type"].startswith("application/problem+json"), (method, identity)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("route", [route for route in API_ROUTES if route.startswith(P)])
def test_a_strange_project_answers_like_one_that_is_not_there(route, world):
    references, clients = world
    path = address(route, references)
    strange, absent = (clients["other"].get(place) for place in (path, path.replace("/demo", "/nowhere")))
    assert strange.status_code == absent.status_code == 404
    for answer in (strange, absent):
        assert answer.json().pop("request_id")
    assert {**strange.json(), "request_id": ""} == {**absent.json(), "request_id": ""}
