"""Instances that stand still move to another host, with all that is on their disks."""

import pytest
from django.db.models.functions import Now

from cloud.hosts.hosted import raise_generation
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import moves, services
from compute.models import Instance, Machine
from compute.services.moving import move
from compute.services.problems import NoCapacity, WrongState
from storage.models import Transfer, Volume
from tests.clouds import ALICE
from tests.compute.scenarios import beside_a_host
from tests.storage.clouds import qemu_io, settle

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def web(cloud):
    """Stopped, with a volume, beside another host; something is on both of its disks."""
    instance = beside_a_host(cloud)
    qemu_io(disk(cloud, instance, 0), "write -P 11 1M 64k")
    qemu_io(volume_file(cloud, instance, 0), "write -P 22 2M 64k")
    return instance


def disk(cloud, instance, node):
    return cloud.nodes[node].kinds["instance"].homes.of(str(instance.pk)).disk


def volume_file(cloud, instance, node):
    volume = Volume.objects.get(attachments__holder_id=instance.pk)
    return cloud.nodes[node].kinds["volume"].layers.path(str(volume.active_id))


def now(instance):
    return Instance.objects.select_related("machine__host", "image", "project").get(pk=instance.pk)


def holds(file, pattern, at):
    return "verification failed" not in qemu_io(file, f"read -P {pattern} {at} 64k")


def test_it_moves_with_its_disks_and_starts_there(cloud, web):
    began = Allocation.of("instance", web.pk).get().created_at
    operation = cloud.do(move, web)
    settle(cloud)
    operation.refresh_from_db()
    assert (operation.outcome, operation.reason) == ("done", "")
    assert now(web).host.name == "node2"
    assert holds(disk(cloud, web, 1), 11, "1M")
    assert holds(volume_file(cloud, web, 1), 22, "2M")
    assert not disk(cloud, web, 0).exists()
    assert list(Allocation.objects.filter(host__name="node1")) == []
    assert Allocation.of("instance", web.pk).get().created_at == began  # what it costs goes on
    key = web.ssh_host_key or now(web).ssh_host_key
    cloud.do(services.start, web)
    settle(cloud)
    assert cloud.nodes[1].hypervisor.running() == {str(web.pk)}
    assert now(web).ssh_host_key == key
    assert holds(disk(cloud, web, 1), 11, "1M")
    assert Machine.objects.count() == 1
    assert not Transfer.objects.exists()
    assert cloud.breaches() == []


def test_it_moves_to_the_host_that_is_said_and_back(cloud, web):
    for name, node in (("node2", 1), ("node1", 0)):
        cloud.do(move, web, host=Host.objects.get(name=name))
        settle(cloud)
        assert holds(disk(cloud, web, node), 11, "1M")
    assert cloud.breaches() == []


def moves_away(cloud, web):
    """To the second node; the first one is not heard of again before it has removed what it had."""
    operation = cloud.do(move, web)
    while now(web).host.name != "node2":
        for node in cloud.nodes:
            node.look()
        Operation.objects.filter(finished_at=None).update(due_at=Now())
        engine.advance(operation.pk)
    cloud.nodes[0].online = False
    settle(cloud)


def test_what_it_left_is_removed_whatever_was_done_with_it_meanwhile(cloud, web):
    moves_away(cloud, web)
    for verb in (services.start, services.stop):
        cloud.do(verb, web)
        settle(cloud)
    assert Machine.objects.count() == 2
    cloud.nodes[0].online = True
    settle(cloud)
    assert (Machine.objects.count(), disk(cloud, web, 0).exists()) == (1, False)
    assert not Allocation.objects.filter(host__name="node1").exists()
    cloud.do(move, web)
    settle(cloud)
    assert now(web).host.name == "node1"


def test_a_removal_that_was_ordered_with_another_generation_is_ordered_again(cloud, web):
    moves_away(cloud, web)
    raise_generation(Machine.objects.get(host__name="node1"))
    cloud.nodes[0].online = True
    settle(cloud)
    assert Machine.objects.count() == 2
    moves.reconcile()
    settle(cloud)
    assert (Machine.objects.count(), disk(cloud, web, 0).exists()) == (1, False)


def test_one_that_was_never_started_moves_too(cloud, web):
    never = cloud.launch(wanted_power="stopped", host=Host.objects.get(name="node1"))
    settle(cloud)
    operation = cloud.do(move, never)
    settle(cloud)
    operation.refresh_from_db()
    assert operation.outcome == "done"
    cloud.do(services.start, never)
    settle(cloud)
    assert cloud.nodes[1].hypervisor.running() == {str(never.pk)}


def test_what_fails_on_its_way_leaves_it_where_it_was(cloud, web, monkeypatch):
    monkeypatch.setattr("storage.agent.transfers.unpack", lambda packed: b"x" * (4 << 20))
    operation = cloud.do(move, web)
    settle(cloud)
    operation.refresh_from_db()
    assert operation.outcome == "failed"
    assert now(web).host.name == "node1"
    assert holds(disk(cloud, web, 0), 11, "1M")
    assert Machine.objects.count() == 1
    assert list(Allocation.objects.filter(host__name="node2")) == []
    cloud.do(services.start, web)
    settle(cloud)
    assert cloud.nodes[0].hypervisor.running() == {str(web.pk)}
    assert cloud.breaches() == []


def test_one_that_is_deleted_on_its_way_leaves_nothing(cloud, web):
    cloud.do(move, web)
    cloud.nodes[0].look()
    cloud.do(services.discard, web)
    settle(cloud)
    settle(cloud)
    assert now(web).host.name == "node1"
    assert holds(disk(cloud, web, 0), 11, "1M")
    assert cloud.breaches() == []
    cloud.do(services.purge, web)
    settle(cloud)
    settle(cloud)
    assert not Transfer.objects.exists()
    assert not Machine.objects.exists()
    assert cloud.breaches() == []


def test_nothing_else_is_done_with_it_meanwhile(cloud, web):
    cloud.do(move, web)
    with pytest.raises(engine.Busy):
        cloud.do(services.start, web)
    engine.cancel(Operation.objects.get(subject_id=web.pk, finished_at=None).pk, actor=ALICE)
    settle(cloud)
    assert now(web).host.name == "node1"
    assert cloud.breaches() == []


def test_it_says_why_not(cloud, web):
    with pytest.raises(WrongState, match="is on node1 already"):
        cloud.do(move, web, host=Host.objects.get(name="node1"))
    Host.objects.filter(name="node2").update(enabled=False)
    with pytest.raises(NoCapacity, match="not in service"):
        cloud.do(move, web)
    cloud.do(services.start, web)
    settle(cloud)
    with pytest.raises(WrongState, match="is not stopped"):
        cloud.do(move, web)


def test_a_dry_run_says_from_where_to_where(cloud, web, api, cloud_admin):
    path = f"projects/{cloud.project.name}/instances/{web.name}/move?dry_run=true"
    plan = api.as_(cloud_admin).post(path, {}).json()["plan"]["move"]
    assert (plan["from"], plan["to"], len(plan["volumes"])) == ("node1", "node2", 1)
    assert plan["bytes"] > 0
    assert not Transfer.objects.exists()
