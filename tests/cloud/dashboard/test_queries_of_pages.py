"""Every page: how many queries it costs, with one row and with many."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cloud.events.services import Actor, record
from cloud.tenancy import sessions
from cloud.tenancy.models import QuotaRequest
from tests import factories
from tests.cloud.dashboard import networking, storing
from tests.cloud.dashboard.conftest import sign_in
from tests.cloud.dashboard.test_every_page import (
    NETWORKING,
    SHOWN,
    STORING,
    I,
    N,
    P,
    R,
    V,
    fill_in,
    ids_of,
    is_of_networks,
    users_of,
)  # fmt: skip

pytestmark = pytest.mark.django_db

MANY = 12
# Tried out, they let go of each floating IP and each port forward that leads in, or delete each snapshot.
GROWING = {f"{R}/delete", f"{V}/delete"}
# A launch, or a deletion, that is tried out; all there is to know.
MAX_QUERIES = {
    f"{P}/launch": 46,  # with its ports, security groups and types of volumes
    "cloud": 62,  # all that the health page looks for, and more
    "cloud/health": 52,  # a look for each kind of trouble
    f"{P}/images/<uuid:image>/delete": 30,
    I: 21,  # with what it used, and each of its disks and NICs
    N: 20,
    f"{P}/networks": 24,  # with what hosts say of all that the topology shows
    **{route: 150 for route in SHOWN if route.startswith((*NETWORKING, *STORING)) and route.endswith("/delete")},
}


def kind_of(route: str) -> str:
    """Pages of a kind are counted in one cloud: making it many takes much longer than looking at a page."""
    if is_of_networks(route):
        return "networks"
    if route.startswith(STORING):
        return "storage"
    return "of the cloud" if route.startswith("cloud") else "others"


@pytest.mark.parametrize("kind", sorted({kind_of(route) for route in SHOWN}))
def test_pages_cost_as_many_queries_with_one_row_as_with_many(kind, world, monkeypatch):
    monkeypatch.setattr(sessions, "NOTED_EVERY", timedelta(days=1))  # on a slow machine it comes round meanwhile
    users = users_of(world.project)
    anybody, admin = sign_in(None), sign_in(users["cloud admin"])
    clients = {route: anybody if route == "sign-in" else admin for route in SHOWN}
    known = ids_of(world, users["member"])
    if kind == "networks":
        known |= networking.one_of_each(world.project)
    if kind == "storage":
        known |= storing.one_of_each(world.project)
    paths = {route: fill_in(route, known) for route in SHOWN if kind_of(route) == kind}
    for route, path in paths.items():
        clients[route].get(path)
    few = {route: count_queries(clients[route], path) for route, path in paths.items()}
    for number in range(MANY):
        add_one_of_each(kind, number, world, users["cloud admin"])
    many = {route: count_queries(clients[route], path) for route, path in paths.items()}
    # Troubled instances and a host's accelerators bring a section of their own into view: one query each.
    growing = {route: (few[route], count) for route, count in many.items() if count > few[route] + 1}
    assert growing.keys() <= GROWING, growing
    assert {route: count for route, count in many.items() if count > MAX_QUERIES.get(route, 18)} == {}


def add_one_of_each(kind: str, number: int, world: Any, cloud_admin: Any) -> None:
    instance = world.launch(labels={"n": str(number)})
    if number % 2:
        world.settle(instance, "broken" if number % 3 else "running")
    else:
        world.project.keypairs.create(name=f"key{number}", public_key="ssh-ed25519 A", fingerprint="x")
    if kind == "networks":
        networking.more(world.project, number)
    if kind == "storage":
        storing.more(world.project, number)
    world.host.labels = {}
    factories.host()
    factories.flavor()
    factories.image()
    factories.member(world.project)
    asked = {"kinds": [f"kind{number}"], "limits": {f"kind{number}": 2}, "before": {f"kind{number}": 1}}
    QuotaRequest.objects.create(project=world.project, **asked)
    factories.project()
    factories.token(cloud_admin)
    record("compute.instance.update", world.instance, actor=Actor("alice"), before={"n": 1}, after={"n": 2})


def count_queries(client: Any, path: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200
    return len(queries)
