"""Volumes from the side of the control plane: made, attached once, grown, snapshotted, cloned, reverted, deleted."""

import hashlib
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction

from cloud.hosts.models import Allocation, Host
from cloud.hosts.reconcile import reconcile
from cloud.operations import engine
from cloud.operations.engine import Busy
from cloud.operations.models import Operation
from cloud.operations.troubles import troubles
from cloud.operations.workflow import Refused, Topic
from cloud.problems import Problem
from cloud.tenancy.quota import OverQuota, usage
from cloud.uses import InUse
from storage import holders, hosting, specs
from storage.agent import qcow2, qemu_img
from storage.models import Attachment, Layer, Snapshot, Volume, VolumeOnHost
from storage.services import attaching, snapshots, volumes
from storage.services.attaching import Holder
from storage.services.volumes import Protected, UnfitVolume, WrongState
from tests import factories
from tests.clouds import ALICE
from tests.storage.clouds import do, files, kind_of, make, path, placed, qemu_io, reads, settle, write

pytestmark = pytest.mark.django_db(transaction=True)
HOLDER = "machine"


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def machine(monkeypatch):
    """Something that holds volumes. `told`: how often it heard of changes; `slow`: it has not seen to them yet."""

    class Machine:
        id, told, slow = uuid.uuid4(), 0, False

        def tell(self, holder_id):
            self.told += 1

        def pending(self, holder_id):
            return Topic(HOLDER, holder_id) if self.slow else None

    one = Machine()
    monkeypatch.setattr(holders, "_kinds", {HOLDER: holders.HolderKind(HOLDER, one.tell, one.pending)})
    return one


def attach(volume, machine, slot=None, **how):
    return do(attaching.attach, volume=volume, holder=Holder(HOLDER, machine.id, "web", slot), **how)


def snap(cloud, volume, name=""):
    made = do(volumes.snapshot, volume=volume, name=name or factories.name("snap"))
    settle(cloud)
    return Snapshot.objects.get(pk=made.pk)


def test_an_empty_volume_is_nowhere_until_it_is_used(cloud):
    make(cloud, size_gib=3)
    assert not VolumeOnHost.objects.exists()
    assert files(cloud) == set()
    assert usage(cloud.project)["volume_gib"]["used"] == 3
    assert cloud.breaches() == []


def test_a_volume_gets_its_file_and_its_room_where_it_is_used(cloud):
    free = Host.objects.get().free_disk_gib
    volume = placed(cloud, size_gib=5)
    assert Host.objects.get().free_disk_gib == free - 5
    assert files(cloud) == {str(volume.active_id)}
    assert qcow2.size_of_layer(path(cloud, volume)) == 5 << 30
    assert Layer.objects.get().made
    assert cloud.breaches() == []


def test_more_than_the_quota_is_refused(cloud):
    cloud.project.quota.limits |= {"volumes": 2, "volume_gib": 5}
    cloud.project.quota.save()
    volume = make(cloud, size_gib=4)
    with pytest.raises(OverQuota, match="volume_gib"):
        make(cloud, size_gib=2)
    with pytest.raises(OverQuota, match="volume_gib"):
        do(volumes.resize, volume=volume, size_gib=6)
    make(cloud, size_gib=1)
    with pytest.raises(OverQuota, match="volumes"):
        make(cloud, size_gib=1)


def test_more_than_its_host_has_is_refused_in_words(cloud):
    room = Host.objects.get().free_disk_gib
    volume = placed(cloud)
    with pytest.raises(Exception, match="host_has_room"):
        do(volumes.resize, volume=volume, size_gib=room + 2)
    volume.refresh_from_db()
    assert volume.size_gib == 1
    assert not Operation.objects.filter(finished_at=None).exists()


def test_a_volume_grows_and_never_shrinks(cloud):
    volume = placed(cloud)
    do(volumes.resize, volume=volume, size_gib=4)
    settle(cloud)
    assert qcow2.size_of_layer(path(cloud, volume)) == 4 << 30
    assert Allocation.of("volume", volume.pk).get().disk_gib == 4
    volume.refresh_from_db()
    for size in (4, 2):
        with pytest.raises(UnfitVolume, match="only grow"):
            do(volumes.resize, volume=volume, size_gib=size)


def test_a_snapshot_keeps_what_was_there_and_a_revert_goes_back_to_it(cloud):
    volume = placed(cloud)
    write(cloud, volume, 1)
    snapshot = snap(cloud, volume)
    assert snapshot.consistency == "filesystem"
    write(cloud, volume, 2)
    lost = str(Volume.objects.get().active_id)
    do(volumes.revert, volume=volume, snapshot=snapshot)
    settle(cloud)
    assert reads(cloud, volume, 1)
    assert lost not in files(cloud)
    assert {str(layer.pk) for layer in Layer.objects.all()} == files(cloud)
    assert cloud.breaches() == []


def test_a_clone_and_its_source_part_ways(cloud):
    volume = placed(cloud)
    write(cloud, volume, 1)
    clone = do(volumes.clone, volume=volume, name="copy", size_gib=2)
    settle(cloud)
    write(cloud, volume, 2)
    assert reads(cloud, clone, 1)
    write(cloud, clone, 3)
    assert reads(cloud, volume, 2)
    assert qcow2.size_of_layer(path(cloud, clone)) == 2 << 30
    assert cloud.breaches() == []


def test_a_clone_outlives_what_it_was_made_from(cloud):
    volume = placed(cloud)
    write(cloud, volume, 1)
    clone = do(volumes.clone, volume=volume, name="copy")
    settle(cloud)
    do(volumes.delete, volume=volume)
    settle(cloud)
    assert reads(cloud, clone, 1)
    do(volumes.delete, volume=clone)
    settle(cloud)
    assert files(cloud) == set()
    assert not Layer.objects.exists()
    assert cloud.breaches() == []


def test_two_that_share_layers_may_go_at_once(cloud):
    volume = placed(cloud)
    clone = do(volumes.clone, volume=volume, name="copy")
    settle(cloud)
    do(volumes.delete, volume=volume)
    do(volumes.delete, volume=clone)
    settle(cloud)
    assert files(cloud) == set()
    assert not Layer.objects.exists()


def test_a_volume_from_a_snapshot_has_what_was_there_then(cloud):
    volume = placed(cloud)
    write(cloud, volume, 1)
    snapshot = snap(cloud, volume)
    write(cloud, volume, 2)
    made = do(volumes.create, project=cloud.project, name="copy", snapshot=snapshot)
    settle(cloud)
    assert reads(cloud, made, 1)
    assert made.source == {"type": "snapshot", "id": str(snapshot.pk), "name": snapshot.name}
    with pytest.raises(UnfitVolume, match="another volume"):
        do(volumes.revert, volume=made, snapshot=snapshot)


def test_a_snapshot_that_is_deleted_takes_its_branch_along(cloud):
    """After a revert to an older one, the layer of the newer one is nobody else's."""
    volume = placed(cloud)
    old, new = snap(cloud, volume, "old"), snap(cloud, volume, "new")
    do(volumes.revert, volume=volume, snapshot=old)
    settle(cloud)
    assert str(new.layer_id) in files(cloud)
    do(snapshots.delete, snapshot=new)
    settle(cloud)
    assert str(new.layer_id) not in files(cloud)
    assert {str(layer.pk) for layer in Layer.objects.all()} == files(cloud)


def test_a_previous_tenants_bytes_are_never_found(cloud):
    volume = placed(cloud)
    write(cloud, volume, 7, length="4M")
    do(volumes.delete, volume=volume)
    settle(cloud)
    assert files(cloud) == set()
    assert reads(cloud, placed(cloud), 0, length="8M")


def test_what_has_snapshots_is_deleted_with_them_only_when_asked(cloud):
    volume = placed(cloud)
    snapshot = snap(cloud, volume)
    with pytest.raises(InUse, match=f"snapshot {snapshot.name}"):
        do(volumes.delete, volume=volume)
    do(snapshots.update, snapshot=snapshot, changes={"protected": True})
    with pytest.raises(Protected, match="protected"):
        do(volumes.delete, volume=volume, cascade=True)
    do(snapshots.update, snapshot=snapshot, changes={"protected": False})
    do(volumes.delete, volume=volume, cascade=True)
    settle(cloud)
    assert not Snapshot.objects.exists()
    assert not Layer.objects.exists()


def test_what_is_attached_is_neither_deleted_nor_reverted(cloud, machine):
    volume = placed(cloud)
    snapshot = snap(cloud, volume)
    attach(volume, machine)
    for refused in (
        lambda: do(volumes.delete, volume=volume, cascade=True),
        lambda: do(volumes.revert, volume=volume, snapshot=snapshot),
        lambda: attach(volume, machine),
    ):
        with pytest.raises(InUse, match="machine web") as told:
            refused()
        assert told.value.extra["used_by"] == [{"type": HOLDER, "id": str(machine.id), "name": "web"}]


def test_of_many_that_attach_it_at_once_exactly_one_does(cloud, machine):
    volume = placed(cloud)

    def one(slot):
        try:
            attach(volume, machine, slot)
        except Problem as refusal:
            return refusal
        finally:
            connections.close_all()
        return None

    with ThreadPoolExecutor(8) as threads:
        refusals = list(threads.map(one, range(1, 9)))
    assert refusals.count(None) == 1
    assert all(isinstance(refusal, InUse) for refusal in refusals if refusal)
    assert Attachment.objects.count() == 1


def test_slots_are_given_in_turn_and_again(cloud, machine):
    first, second, third = (make(cloud) for _ in range(3))
    assert [attach(volume, machine).slot for volume in (first, second)] == [1, 2]
    attaching.release(first.attachments.get(), actor=ALICE)
    assert attach(third, machine).slot == 1


def test_a_snapshot_under_a_machine_waits_until_that_has_seen_to_it(cloud, machine):
    volume = placed(cloud)
    before = volume.active_id
    attach(volume, machine)
    machine.slow = True
    do(volumes.snapshot, volume=volume, name="live")
    operation = Operation.objects.get(finished_at=None)
    for _ in range(4):
        engine.advance(operation.pk)
        cloud.node.look()
        Operation.objects.filter(pk=operation.pk).update(due_at=operation.started_at)
    operation.refresh_from_db()
    assert operation.step == "wait_for_holder"
    assert machine.told == 1
    [disk] = specs.disks(HOLDER, machine.id, Host.objects.get().pk)
    assert disk["chain"][0] == str(before)
    assert len(disk["chain"]) == 2
    assert set(disk["chain"]) <= files(cloud)
    assert not Snapshot.objects.get().consistency
    machine.slow = False
    settle(cloud)
    assert Snapshot.objects.get().consistency == "crash"
    assert Layer.objects.get(pk=before).sealed_at


def test_one_thing_at_a_time_is_done_with_a_volume(cloud, machine):
    volume = placed(cloud)
    do(volumes.snapshot, volume=volume, name="one")
    for refused in (
        lambda: do(volumes.snapshot, volume=volume, name="two"),
        lambda: do(volumes.resize, volume=volume, size_gib=2),
        lambda: attach(volume, machine),
        lambda: do(snapshots.delete, snapshot=Snapshot.objects.get()),
    ):
        with pytest.raises(Busy):
            refused()
    with pytest.raises(WrongState, match="not taken yet"):
        do(volumes.create, project=cloud.project, name="copy", snapshot=Snapshot.objects.get())


def test_a_volume_that_goes_with_its_holder_is_deleted_with_it(cloud, machine):
    kept, made = placed(cloud), placed(cloud)
    attach(kept, machine)
    attach(made, machine, delete_with_holder=True)
    with transaction.atomic():
        attaching.release_all(holder_type=HOLDER, holder_id=machine.id, actor=ALICE)
    settle(cloud)
    assert list(Volume.objects.all()) == [kept]
    assert not Attachment.objects.exists()


def test_a_volume_is_used_on_its_own_host_only(cloud):
    volume = placed(cloud)
    cloud.nodes.append(cloud.add_node("node2"))
    with pytest.raises(Refused, match="on another host"), transaction.atomic():
        hosting.connect(volume, Host.objects.get(name="node2"))


def test_a_lost_file_is_a_problem_in_words_and_never_an_empty_disk(cloud):
    volume = placed(cloud)
    path(cloud, volume).unlink()
    cloud.node.look()
    cloud.node.heartbeat()
    row = VolumeOnHost.objects.get()
    assert (row.seen, "missing" in row.seen_problem) == ("broken", True)
    [told] = [one for one in troubles() if one.title == "Volumes in error"]
    assert [(case.name, case.words) for case in told.cases] == [(volume.name, row.seen_problem)]
    VolumeOnHost.objects.update(seen_at=None)
    reconcile()
    settle(cloud)
    assert VolumeOnHost.objects.get().seen == "broken"
    assert files(cloud) == set()


def test_a_full_disk_is_refused_in_words_and_leaves_nothing(cloud, monkeypatch):
    volume = placed(cloud)
    monkeypatch.setattr("storage.agent.layers.MIN_FREE_BYTES", 1 << 60)
    do(volumes.snapshot, volume=volume, name="no-room")
    settle(cloud)
    operation = Operation.objects.latest("started_at")
    assert (operation.outcome, "disk is full" in operation.reason) == ("failed", True)
    assert not Snapshot.objects.exists()
    assert {str(layer.pk) for layer in Layer.objects.all()} == files(cloud) == {str(volume.active_id)}
    assert cloud.breaches() == []


def test_without_qemu_img_a_volume_is_raw_and_has_no_snapshots(cloud, monkeypatch):
    monkeypatch.setattr("storage.agent.qemu_img.is_there", lambda: False)
    volume = placed(cloud)
    assert kind_of(cloud).layers.format_of(str(volume.active_id)) == "raw"
    assert path(cloud, volume).stat().st_size == 1 << 30
    with pytest.raises(WrongState, match="no qemu-img"):
        do(volumes.snapshot, volume=volume, name="no")
    do(volumes.resize, volume=volume, size_gib=2)
    settle(cloud)
    assert path(cloud, volume).stat().st_size == 2 << 30


def test_a_volume_from_an_image_begins_with_what_is_on_its_disk(cloud, settings, tmp_path):
    settings.IMAGE_STORE = tmp_path
    image = an_image(tmp_path)
    volume = make(cloud, size_gib=None, image=image)
    assert (volume.size_gib, volume.bootable, volume.boot_files) == (1, True, image.files)
    with transaction.atomic():
        hosting.connect(volume, Host.objects.get())
    settle(cloud)
    assert reads(cloud, volume, 9)
    write(cloud, volume, 1)
    assert reads(cloud, placed(cloud, image=image), 9)
    [file] = cloud.node.paths.home.joinpath("images").iterdir()
    assert file.stat().st_mode & 0o777 == 0o444
    assert cloud.breaches() == []


def an_image(store):
    """One whose disk has one pattern."""
    made = store / "disk"
    qemu_img.run(qemu_img.create(made, 64 << 20))
    qemu_io(made, "write -P 9 0 64k")
    content = made.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    made.rename(store / sha256)
    disk = {"role": "disk", "sha256": sha256, "size": len(content), "format": "qcow2"}
    return factories.image(files=[disk])


def test_an_image_that_has_no_disk_or_is_not_ready_is_refused(cloud):
    with pytest.raises(UnfitVolume, match="no disk"):
        make(cloud, image=factories.image(files=[]))
    with pytest.raises(UnfitVolume, match="not ready"):
        make(cloud, image=factories.image(files=[], status="importing"))
