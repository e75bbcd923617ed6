"""A host that is emptied: what stands still moves, what runs stays and is named, or is down for the time."""

import pytest
from django.db import transaction

from cloud.hosts.models import Host
from compute import draining, services
from compute.drain import drain
from compute.models import Instance
from storage.models import Volume
from tests.clouds import ALICE
from tests.compute.scenarios import beside_a_host, full_host
from tests.storage.clouds import placed, settle

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def full(cloud):
    """The first host, with a stopped instance that has a volume, one that runs, and a volume of nobody."""
    host = full_host(cloud)
    placed(cloud, name="loose")
    cloud.launch(name="busy", host=host)
    settle(cloud)
    return host


def empty(cloud, host, **how):
    with transaction.atomic():
        operation = drain(host=host, actor=ALICE, **how)
    settle(cloud)
    settle(cloud)
    operation.refresh_from_db()
    return operation


def where():
    """The names of instances and loose volumes, by the names of their hosts."""
    found = {}
    for instance in Instance.objects.select_related("machine__host"):
        found[instance.name] = instance.host.name
    for volume in Volume.objects.select_related("active__host"):
        found[volume.name] = volume.active.host.name
    return found


def test_what_stands_still_moves_and_what_runs_is_named(cloud, full, api, cloud_admin):
    plan = api.as_(cloud_admin).post("hosts/node1/drain?dry_run=true", {}).json()["plan"]
    assert (len(plan["moves"]), [one["name"] for one in plan["stays"]]) == (2, ["busy"])
    operation = empty(cloud, full)
    assert (operation.outcome, operation.progress_done, operation.progress_of) == ("done", 2, 2)
    assert {name: host for name, host in where().items() if host == "node1"} == {"busy": "node1"}
    shown = api.as_(cloud_admin).get("hosts/node1/drain").json()
    [left] = shown["stays"]
    assert (left["name"], left["why"]) == (
        "busy", "It runs, and there is no live migration. Stop it first, or drain with restart.",
    )  # fmt: skip
    assert not Host.objects.get(name="node1").enabled
    assert cloud.breaches() == []


def test_with_restart_what_runs_is_down_for_the_time(cloud, full):
    operation = empty(cloud, full, restart=True)
    assert operation.outcome == "done"
    assert draining.left_behind(operation) == []
    assert set(where().values()) == {"node2"}
    busy = Instance.objects.get(name="busy")
    assert (busy.wanted_power, cloud.nodes[1].hypervisor.running()) == ("running", {str(busy.pk)})
    assert cloud.breaches() == []


def test_what_finds_no_room_stays_and_runs_on(cloud, full):
    Host.objects.filter(name="node2").update(enabled=False)
    operation = empty(cloud, full, restart=True)
    assert operation.outcome == "done"
    assert len(draining.left_behind(operation)) == 3
    assert set(where().values()) == {"node1"}
    assert cloud.nodes[0].hypervisor.running() == {str(Instance.objects.get(name="busy").pk)}


def test_it_can_be_cancelled(cloud, full, api, cloud_admin):
    with transaction.atomic():
        operation = drain(host=full, actor=ALICE, restart=True)
    cloud.nodes[0].look()
    assert api.as_(cloud_admin).post("hosts/node1/drain/cancel").status_code == 202
    settle(cloud)
    settle(cloud)
    operation.refresh_from_db()
    assert operation.outcome == "cancelled"
    assert services.is_busy(Instance.objects.get(name="busy")) is False
    assert Instance.objects.get(name="busy").wanted_power == "running"
    assert cloud.breaches() == []


def test_a_volume_with_a_clone_moves_once(cloud):
    beside_a_host(cloud)
    host = Host.objects.get(name="node1")
    operation = empty(cloud, host)
    assert operation.outcome == "done"
    assert "node1" not in where().values()
