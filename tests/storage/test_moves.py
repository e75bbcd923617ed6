"""Volumes move to another host, with all that is on them, and are on one of the two whatever dies."""

import pytest

from agent import faults
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from storage import hosting
from storage.models import Snapshot, Transfer, Volume
from storage.services import moving, snapshots, volumes
from storage.services.volumes import WrongState
from tests.storage.clouds import do, give_volumes, placed, qemu_io, second, settle

pytestmark = pytest.mark.django_db(transaction=True)
MIB = 1 << 20


class Killed(BaseException):
    """The worker of a host died here."""


@pytest.fixture
def two(cloud):
    second(cloud)
    return cloud


def write(cloud, volume, pattern, at, node=0):
    qemu_io(file_of(cloud, volume, node), f"write -P {pattern} {at * MIB} {MIB}")


def has(cloud, volume, pattern, at, node=0):
    found = qemu_io(file_of(cloud, volume, node), f"read -P {pattern} {at * MIB} {MIB}")
    return "verification failed" not in found


def file_of(cloud, volume, node):
    active = Volume.objects.get(pk=volume.pk).active_id
    return cloud.nodes[node].kinds["volume"].layers.path(str(active))


def host(number):
    return Host.objects.get(name=f"node{number}")


def there(cloud, node):
    return set(cloud.nodes[node].kinds["volume"].layers.there())


def test_a_volume_moves_with_its_snapshots_and_its_clone(two):
    volume = placed(two)
    write(two, volume, 1, at=0)
    do(volumes.snapshot, volume=volume, name="before")
    settle(two)
    write(two, volume, 2, at=0)
    write(two, volume, 3, at=9)
    clone = do(volumes.clone, volume=volume, name="copy")
    settle(two)
    write(two, clone, 4, at=20)
    layers = there(two, 0)
    operation = do(moving.move, volume=volume, host=host(2))
    settle(two)
    operation.refresh_from_db()
    assert operation.outcome == "done"
    assert (operation.progress_done, operation.progress_unit) == (operation.progress_of, "MiB")
    assert (there(two, 0), there(two, 1)) == (set(), layers)
    for one in (volume, clone):
        assert hosting.host_of(Volume.objects.get(pk=one.pk)) == host(2)
        assert has(two, one, 2, at=0, node=1)
        assert has(two, one, 3, at=9, node=1)
    assert has(two, clone, 4, at=20, node=1)
    assert has(two, volume, 0, at=20, node=1)
    do(volumes.revert, volume=volume, snapshot=Snapshot.objects.get(name="before"))
    settle(two)
    assert has(two, volume, 1, at=0, node=1)
    assert Allocation.objects.filter(resource_type="volume", host=host(1)).count() == 0
    assert two.breaches() == []


def test_it_moves_back(two):
    volume = placed(two)
    write(two, volume, 7, at=3)
    for number in (2, 1, 2):
        do(moving.move, volume=volume, host=host(number))
        settle(two)
        assert has(two, volume, 7, at=3, node=number - 1)
    assert not Transfer.objects.exists()
    assert two.breaches() == []


def points():
    return sorted(point for point in faults.POINTS if point.startswith(("transfer.", "layers.before_rename")))


@pytest.mark.parametrize("node", [0, 1], ids=["source", "target"])
def test_a_host_may_die_wherever_it_is(two, node, monkeypatch):
    """Killed once at each fault point that it reaches on the way; what it has done until then is not lost."""
    volume = placed(two)
    died: set[str] = set()
    current = [0]
    ordinary = faults.reach

    def reach(name):
        if name in points() and current[0] == node and name not in died:
            died.add(name)
            raise Killed(name)
        ordinary(name)

    monkeypatch.setattr(faults, "reach", reach)
    for number, one in enumerate(two.nodes):
        watch(two, one, number, current)
    for at in range(0, 40, 3):
        write(two, volume, at + 1, at=at)
    do(moving.move, volume=volume, host=host(2))
    for _ in range(20):
        try:
            settle(two)
            break
        except Killed:
            two.nodes[node] = two.nodes[node].restart()
            give_volumes(two.nodes[node])
            watch(two, two.nodes[node], node, current)
    assert {"transfer.before_remove"} < died
    for at in range(0, 40, 3):
        assert has(two, volume, at + 1, at=at, node=1)
    assert there(two, 0) == set()
    assert two.breaches() == []


def watch(cloud, node, number, current):
    """Say which host it is that acts."""
    look = node.look

    def noted():
        current[0] = number
        return look()

    node.look = noted


def test_what_is_damaged_on_its_way_is_refused_and_the_volume_stays(two, monkeypatch):
    volume = placed(two)
    write(two, volume, 5, at=0)
    monkeypatch.setattr("storage.agent.transfers.unpack", lambda packed: b"x" * (4 * MIB))
    operation = do(moving.move, volume=volume)
    settle(two)
    operation.refresh_from_db()
    assert (operation.outcome, operation.fix_by) == ("failed", "operator")
    assert "damaged on its way" in operation.reason
    assert has(two, volume, 5, at=0)
    assert (hosting.host_of(Volume.objects.get(pk=volume.pk)), there(two, 1)) == (host(1), set())
    assert two.breaches() == []


def test_a_volume_of_which_something_is_made_meanwhile_stays(two):
    volume = placed(two)
    do(volumes.snapshot, volume=volume, name="kept")
    settle(two)
    kept = Snapshot.objects.select_related("layer__host", "volume__project").get(name="kept")
    operation = do(moving.move, volume=volume)
    do(volumes.create, project=two.project, name="made", snapshot=kept)
    settle(two)
    operation.refresh_from_db()
    assert operation.outcome == "failed"
    assert "changed meanwhile" in operation.reason
    assert two.breaches() == []


def test_nothing_else_is_done_with_it_meanwhile(two):
    volume = placed(two)
    do(moving.move, volume=volume)
    with pytest.raises(engine.Busy):
        do(volumes.resize, volume=volume, size_gib=2)


def test_it_says_why_not(two):
    volume = placed(two)
    do(volumes.clone, volume=volume, name="copy")
    settle(two)
    volume.attachments.create(holder_type="instance", holder_id=volume.pk, holder_name="web", slot=1)
    with pytest.raises(WrongState, match=f"{volume.name} is attached to web. copy, {volume.name} share what is on"):
        do(moving.move, volume=Volume.objects.get(name="copy"))
    volume.attachments.all().delete()
    with pytest.raises(Exception, match="are on node1 already"):
        do(moving.move, volume=volume, host=host(1))
    Host.objects.filter(name="node2").update(enabled=False)
    with pytest.raises(hosting.NoRoom):
        do(moving.move, volume=volume)
    assert not Operation.objects.filter(finished_at=None).exists()


def test_a_snapshot_is_not_deleted_while_it_moves(two):
    volume = placed(two)
    do(volumes.snapshot, volume=volume, name="kept")
    settle(two)
    do(moving.move, volume=volume)
    with pytest.raises(engine.Busy):
        do(snapshots.delete, snapshot=Snapshot.objects.select_related("layer", "volume").get(name="kept"))


def test_a_move_whose_operation_is_lost_is_given_up(two):
    from storage.moving import reconcile

    volume = placed(two)
    operation = do(moving.move, volume=volume)
    two.nodes[0].look()
    Operation.objects.filter(pk=operation.pk).delete()
    reconcile()
    settle(two)
    settle(two)
    assert not Transfer.objects.exists()
    assert two.breaches() == []
