"""An instance with two machines, as in the middle of a migration: what counts, and what may be said of both."""

import pytest
from django.db import IntegrityError, transaction

from cloud.events.models import Event
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import services
from compute.models import Instance, Machine
from tests.clouds import ALICE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def target(cloud):
    """The second machine of a running instance, which holds room on a second host."""
    instance = cloud.launch(name="web")
    cloud.settle()
    cloud.nodes.append(cloud.add_node("node2"))
    other = Host.objects.get(name="node2")
    size = {"vcpus": instance.vcpus, "memory_mib": instance.memory_mib, "disk_gib": instance.disk_gib}
    Allocation.objects.create(resource_type="instance", resource_id=instance.pk, host=other, **size)
    return Machine.objects.create(instance=instance, host=other, hypervisor="qemu")


def report(node, machine, seen, **facts):
    return node.control_plane.report({
        "resource": {"type": "instance", "id": str(machine.instance_id)},
        "generation": machine.generation,
        "sequence": machine.seen_sequence + 1,
        "seen": seen,
        "facts": facts,
    })  # fmt: skip


def test_both_hold_room(cloud, target):
    assert Host.objects.get(name="node2").free_memory_mib == Host.objects.get(name="node1").free_memory_mib
    assert cloud.breaches() == []


def test_both_report_each_of_itself(cloud, target):
    assert report(cloud.nodes[1], target, "paused") == "taken"
    assert report(cloud.nodes[1], target, "running") == "outdated", "the same sequence again"
    target.refresh_from_db()
    source = Machine.objects.get(host__name="node1")
    assert (source.seen, target.seen) == ("running", "paused")
    assert Instance.objects.get().seen == "running"
    seen = Event.objects.filter(action="compute.instance.seen").latest("id")
    assert (seen.subject_id, seen.actor, seen.after["power"]) == (str(target.instance_id), "host node2", "paused")


def test_only_the_one_that_counts_is_started_again(cloud, target):
    assert report(cloud.nodes[1], target, "stopped", cause="crash") == "taken"
    assert not Operation.objects.filter(finished_at=None).exists()
    source = Machine.objects.get(host__name="node1")
    assert report(cloud.nodes[0], source, "stopped", cause="crash") == "taken"
    assert Operation.objects.get(finished_at=None).kind == "compute.start"


def test_a_host_has_one_machine_of_an_instance(cloud, target):
    with pytest.raises(IntegrityError, match="one_machine_per_instance_and_host"), transaction.atomic():
        Machine.objects.create(instance=target.instance, host=target.host, hypervisor="qemu")


def test_a_delete_removes_both(cloud, target):
    cloud.do(services.delete, target.instance)
    engine.advance(Operation.objects.get(finished_at=None).pk)
    cloud.nodes[0].look()
    assert Instance.objects.exists()
    cloud.settle()
    assert not Instance.objects.exists()
    assert not Allocation.objects.exists()
    assert cloud.breaches() == []


def test_a_machine_that_is_made_anew_begins_above_what_its_host_remembers(cloud):
    instance = cloud.launch(name="web")
    engine.advance(Operation.objects.get(finished_at=None).pk)
    engine.cancel(Operation.objects.get(finished_at=None).pk, actor=ALICE)
    cloud.settle()
    instance.refresh_from_db()
    assert (instance.machine, instance.seen, Machine.objects.count()) == (None, "gone", 0)
    cloud.do(services.start, instance)
    cloud.settle()
    instance.refresh_from_db()
    assert (instance.seen, instance.generation) == ("running", 3)
    assert cloud.breaches() == []
