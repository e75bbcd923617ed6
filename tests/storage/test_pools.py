"""Volumes in a folder that two hosts share: attached on either of them without copying."""

import uuid

import pytest

from cloud.hosts.models import Allocation, Host
from cloud.operations.models import Operation
from cloud.problems import Conflict, Invalid
from compute import services
from compute.first_volumes import Disk
from compute.services.moving import move as move_instance
from compute.volumes import UnfitVolumes
from storage import pools, troubles
from storage.hosting import NoRoom
from storage.models import Snapshot, Volume, VolumeType
from storage.services import moving, retyping, volume_types, volumes
from storage.services.volumes import UnfitVolume
from tests.storage.clouds import do, kind_of, make, placed, qemu_io, second, settle

pytestmark = pytest.mark.django_db(transaction=True)
POOL = "5b0c9b1e-7d0b-4c88-9d5c-2f8a7f0e6c11"


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


def mount(node, folder):
    pools = node.paths.home / "pools"
    pools.mkdir(exist_ok=True)
    (pools / "nfs").symlink_to(folder)
    node.heartbeat()


@pytest.fixture
def folder(tmp_path):
    """What hosts share, with its marker."""
    there = tmp_path / "export"
    there.mkdir()
    (there / ".pileus-pool").write_text(f"{POOL}\n")
    return there


@pytest.fixture
def two(cloud, folder):
    """Two hosts that have the folder mounted."""
    kind_of(cloud)
    second(cloud)
    for node in cloud.nodes:
        mount(node, folder)
    return cloud


@pytest.fixture
def shared(two):
    return do(volume_types.create, wished={"name": "shared", "pool": uuid.UUID(POOL)})


def host(number):
    return Host.objects.get(name=f"node{number}")


def now(volume):
    return Volume.objects.select_related("active__host").get(pk=volume.pk)


def layers(folder):
    return {path.stem for path in (folder / "volumes").iterdir()}


def file_of(folder, volume):
    return folder / "volumes" / f"{now(volume).active_id}.qcow2"


def launched(cloud, number):
    instance = cloud.launch(host=host(number))
    settle(cloud)
    return instance


def plugged(cloud, number, instance):
    return cloud.nodes[number - 1].hypervisor.disks(str(instance.pk))


def attach(cloud, instance, volume):
    cloud.do(services.attach_volume, instance, volume=now(volume))
    settle(cloud)


def detach(cloud, instance, volume):
    cloud.do(services.detach_volume, instance, volume=now(volume))
    settle(cloud)


def test_it_is_attached_on_one_host_and_then_on_the_other_without_copying(two, shared, folder):
    volume = make(two, type=shared)
    first, other = launched(two, 1), launched(two, 2)
    attach(two, first, volume)
    assert plugged(two, 1, first)[1] == volume.serial
    assert layers(folder) == {str(now(volume).active_id)}
    qemu_io(file_of(folder, volume), "write -P 7 0 64k")
    inode = file_of(folder, volume).stat().st_ino
    detach(two, first, volume)
    assert 1 not in plugged(two, 1, first)
    attach(two, other, volume)
    assert plugged(two, 2, other)[1] == volume.serial
    assert now(volume).active.host == host(2)
    assert file_of(folder, volume).stat().st_ino == inode
    assert "verification failed" not in qemu_io(file_of(folder, volume), "read -P 7 0 64k")
    assert list(volume.on_hosts.values_list("host__name", flat=True)) == ["node2"]
    for node in two.nodes:
        assert set(node.kinds["volume"].layers.there()) == set(), "on no host's own disk"
    assert two.breaches() == []
    detach(two, other, volume)
    attach(two, first, volume)
    assert plugged(two, 1, first)[1] == volume.serial
    assert two.breaches() == []


def test_a_host_that_is_away_does_not_keep_it(two, shared, folder):
    volume = placed(two, type=shared)
    other = launched(two, 2)
    two.nodes[0].online = False
    attach(two, other, volume)
    assert plugged(two, 2, other)[1] == volume.serial
    two.nodes[0].online = True
    settle(two)
    assert layers(folder) == {str(now(volume).active_id)}, "who comes back removes nothing"
    assert list(volume.on_hosts.values_list("host__name", flat=True)) == ["node2"]
    assert two.breaches() == []


def test_snapshots_and_clones_go_with_it_and_files_go_with_the_last(two, shared, folder):
    volume = placed(two, type=shared)
    do(volumes.snapshot, volume=volume, name="before")
    settle(two)
    clone = do(volumes.clone, volume=volume, name="copy")
    settle(two)
    there = layers(folder)
    do(moving.move, volume=volume, host=host(2))
    settle(two)
    assert (now(volume).active.host, now(clone).active.host) == (host(2), host(2))
    assert layers(folder) == there
    do(volumes.delete, volume=now(clone))
    settle(two)
    do(volumes.revert, volume=volume, snapshot=Snapshot.objects.get())
    settle(two)
    assert str(now(volume).active_id) in layers(folder)
    do(volumes.delete, volume=now(volume), cascade=True)
    settle(two)
    assert layers(folder) == set()
    assert not Volume.objects.exists()
    assert two.breaches() == []


def test_an_instance_moves_with_one_volume_there_and_one_on_its_host(two, shared, folder):
    instance = launched(two, 1)
    far, near = make(two, type=shared), make(two)
    for volume in (far, near):
        attach(two, instance, volume)
    two.do(services.stop, instance)
    settle(two)
    inode = file_of(folder, far).stat().st_ino
    two.do(move_instance, instance)
    settle(two)
    assert {now(volume).active.host for volume in (far, near)} == {host(2)}
    assert file_of(folder, far).stat().st_ino == inode
    assert set(two.nodes[1].kinds["volume"].layers.there()) == {str(now(near).active_id)}
    two.do(services.start, instance)
    settle(two)
    assert set(plugged(two, 2, instance).values()) >= {far.serial, near.serial}
    assert two.breaches() == []


def test_it_takes_nothing_of_a_hosts_own_disk(two, shared):
    free = host(1).free_disk_gib
    volume = placed(two, type=shared, size_gib=5)
    do(volumes.resize, volume=volume, size_gib=9)
    settle(two)
    assert (host(1).free_disk_gib, Allocation.of("volume", volume.pk).get().disk_gib) == (free, 0)
    assert two.breaches() == []


def test_a_folder_takes_no_more_than_it_has(two, shared):
    for one in Host.objects.all():
        one.capabilities["pools"][POOL]["total_gib"] = 10
        one.save(update_fields=["capabilities"])
    made = do(volumes.create, project=two.project, name="six", size_gib=6, type=shared)
    with pytest.raises(NoRoom, match="has 10 GiB, of which 6 are taken; 5 more do not fit"):
        do(volumes.create, project=two.project, name="five", size_gib=5, type=shared)
    with pytest.raises(NoRoom, match="5 more do not fit"):
        do(volumes.resize, volume=made, size_gib=11)


def test_a_host_without_the_folder_is_refused_in_words(two, shared):
    volume = placed(two, type=shared)
    other = launched(two, 2)
    (two.nodes[1].paths.home / "pools" / "nfs").unlink()
    two.nodes[1].heartbeat()
    with pytest.raises(UnfitVolumes, match="does not have the shared folder of .* mounted"):
        two.do(services.attach_volume, other, volume=volume)
    with pytest.raises(UnfitVolume, match="does not have the shared folder"):
        do(moving.move, volume=volume, host=host(2))
    with pytest.raises(NoRoom, match="No other host that takes volumes has their shared folder mounted"):
        do(moving.move, volume=volume)


def test_a_launch_goes_where_the_folder_is(two, shared):
    (two.nodes[0].paths.home / "pools" / "nfs").unlink()
    two.nodes[0].heartbeat()
    made = [two.launch(volumes=[Disk(size_gib=1, type=shared)]) for _ in range(2)]
    settle(two)
    for instance in made:
        instance.refresh_from_db()
        assert instance.host == host(2)
        assert 1 in plugged(two, 2, instance)
    assert two.breaches() == []


def test_a_folder_that_is_not_mounted_any_more_is_a_problem_and_not_an_empty_disk(two, shared, folder):
    volume = placed(two, type=shared)
    (two.nodes[0].paths.home / "pools" / "nfs").unlink()
    two.nodes[0].look()
    row = volume.on_hosts.get()
    assert (row.seen, "is not mounted on its host" in row.seen_problem) == ("broken", True)
    mount(two.nodes[0], folder)
    do(volumes.resize, volume=volume, size_gib=2)
    settle(two)
    assert volume.on_hosts.get().seen == "present"


def test_a_type_stays_where_its_volumes_are(two, shared):
    with pytest.raises(Invalid, match="No host has the shared folder"):
        do(volume_types.create, wished={"name": "nowhere", "pool": uuid.uuid4()})
    volume = placed(two, type=shared)
    with pytest.raises(Conflict, match="stay where they are"):
        do(volume_types.update, volume_type=VolumeType.objects.get(name="shared"), changes={"pool": None})
    with pytest.raises(UnfitVolume, match="in another place"):
        do(retyping.retype, volume=volume, type=volume_types.default())
    with pytest.raises(UnfitVolume, match="in another place"):
        do(volumes.clone, volume=volume, name="copy", type=volume_types.default())
    assert not Operation.objects.filter(finished_at=None).exists()


def say(number, **facts):
    """What a host says of the pool."""
    Host.objects.filter(pk=host(number).pk).update(capabilities={**host(number).capabilities, "pools": {POOL: facts}})


def test_what_one_host_says_alone_is_not_believed(two, shared):
    for number, gib in (1, 10**15), (2, 100):
        say(number, name="nfs", total_gib=gib)
    [pool] = pools.known()
    assert pool.total_gib == 100, "of two the smaller"
    assert [case.name for case in troubles.doubtful_pools()[1]] == ["node1"]
    say(2, name="nfs", total_gib=10**15)
    assert pools.known()[0].total_gib == pools.MAX_GIB, "more is no measurement"
    two.nodes.append(two.add_node("node3"))
    for number, kind in (1, "folder"), (2, "folder"), (3, "nbd"):
        say(number, name="nfs", total_gib=100 + number, kind=kind)
    [pool] = pools.known()
    assert (pool.kind, pool.hosts) == ("folder", ("node1", "node2"))
    assert [case.name for case in troubles.doubtful_pools()[1]] == ["node3"]
    for number in (1, 2, 3):
        say(number, name="nfs", total_gib=100 + number)
    assert pools.known()[0].total_gib == 102
    assert troubles.doubtful_pools() == (0, [])
