"""Snapshots and clones of volumes in Ceph: what was kept of an image, and clones of that."""

import pytest

from agent.entries import Key
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import services
from compute.first_volumes import Disk
from storage.models import Layer, Snapshot, Volume
from storage.services import snapshots, volumes
from tests import factories
from tests.clouds import ALICE
from tests.storage.ceph_clouds import attach, detach, host, image_of, kept, launched, now, plugged, reads, write
from tests.storage.clouds import do, make, placed, settle
from tests.storage.test_volumes import an_image

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet_bells")]


def snap(cloud, volume, name=""):
    made = do(volumes.snapshot, volume=now(volume), name=name or factories.name("snap"))
    settle(cloud)
    return Snapshot.objects.get(pk=made.pk)


def nothing_left(cloud, ceph, before):
    assert not Layer.objects.exists()
    assert ceph.images() == before
    assert cloud.breaches() == []


@pytest.fixture
def before(ceph):
    return ceph.images()


def test_a_snapshot_keeps_what_was_there_and_a_revert_goes_back_to_it(two, in_ceph, ceph, before):
    volume = placed(two, type=in_ceph)
    write(ceph, volume, 1)
    first = image_of(volume)
    snapshot = snap(two, volume)
    assert (snapshot.consistency, image_of(volume)) == ("filesystem", first)
    assert kept(ceph, first) == [str(snapshot.layer_id)]
    write(ceph, volume, 2, "0 8M")
    do(volumes.revert, volume=now(volume), snapshot=snapshot)
    settle(two)
    assert image_of(volume) != first
    assert reads(ceph, volume, 1)
    assert reads(ceph, volume, 0, "64k 8M")
    assert '"size":0,' in ceph.rbd("info", "--format", "json", f"volumes/{first}"), "what was written since is gone"
    assert {str(one.pk) for one in Layer.objects.all()} == {str(snapshot.layer_id), str(now(volume).active_id)}
    assert two.breaches() == []
    write(ceph, volume, 3)
    second = snap(two, volume)
    write(ceph, volume, 4)
    do(volumes.revert, volume=now(volume), snapshot=snapshot)
    settle(two)
    assert reads(ceph, volume, 1)
    do(volumes.revert, volume=now(volume), snapshot=second)
    settle(two)
    assert reads(ceph, volume, 3)
    do(volumes.delete, volume=now(volume), cascade=True)
    settle(two)
    nothing_left(two, ceph, before)


def test_a_snapshot_that_is_deleted_leaves_nothing_and_makes_no_chain_longer(two, in_ceph, ceph):
    volume = placed(two, type=in_ceph)
    for number in range(1, 4):
        write(ceph, volume, number)
        snapshot = snap(two, volume)
        write(ceph, volume, 9, "1M 64k")
        do(snapshots.delete, snapshot=snapshot)
        settle(two)
        assert kept(ceph, image_of(volume)) == []
        assert Layer.objects.get() == now(volume).active
        assert (reads(ceph, volume, number), reads(ceph, volume, 9, "1M 64k")) == (True, True)
    first, second, third = (snap(two, volume) for _ in range(3))
    do(snapshots.delete, snapshot=second)
    settle(two)
    assert set(kept(ceph, image_of(volume))) == {str(first.layer_id), str(third.layer_id)}
    assert two.breaches() == []


def test_a_clone_and_its_source_part_ways_and_outlive_each_other(two, in_ceph, ceph, before):
    volume = placed(two, type=in_ceph)
    write(ceph, volume, 1)
    clone = do(volumes.clone, volume=now(volume), name="copy", size_gib=2)
    settle(two)
    assert reads(ceph, clone, 1)
    write(ceph, volume, 2)
    write(ceph, clone, 3, "1M 64k")
    assert (reads(ceph, clone, 1), reads(ceph, volume, 2), reads(ceph, volume, 0, "1M 64k")) == (True, True, True)
    assert f'"size":{2 << 30},' in ceph.rbd("info", "--format", "json", f"volumes/{image_of(clone)}")
    assert two.breaches() == []
    do(volumes.delete, volume=now(volume))
    settle(two)
    assert (reads(ceph, clone, 1), reads(ceph, clone, 3, "1M 64k")) == (True, True)
    do(volumes.delete, volume=now(clone))
    settle(two)
    nothing_left(two, ceph, before)


def test_two_that_share_an_image_may_go_at_once_in_either_order(two, in_ceph, ceph, before):
    for turn in (1, -1):
        volume = placed(two, type=in_ceph)
        clone = do(volumes.clone, volume=now(volume), name="copy")
        settle(two)
        for one in (volume, clone)[::turn]:
            do(volumes.delete, volume=now(one))
        settle(two)
        nothing_left(two, ceph, before)


def test_a_volume_from_a_snapshot_goes_on_when_all_else_is_gone(two, in_ceph, ceph, before):
    volume = placed(two, type=in_ceph)
    write(ceph, volume, 1)
    snapshot = snap(two, volume)
    write(ceph, volume, 2)
    made = do(volumes.create, project=two.project, name="copy", snapshot=snapshot)
    settle(two)
    assert (made.type, reads(ceph, made, 1)) == (in_ceph, True)
    of_it = snap(two, made)
    do(snapshots.delete, snapshot=snapshot)
    do(volumes.delete, volume=now(volume))
    settle(two)
    assert reads(ceph, made, 1)
    write(ceph, made, 5)
    do(volumes.revert, volume=now(made), snapshot=of_it)
    settle(two)
    assert reads(ceph, made, 1)
    assert two.breaches() == []
    do(volumes.delete, volume=now(made), cascade=True)
    settle(two)
    nothing_left(two, ceph, before)


def test_a_snapshot_of_what_is_nowhere_yet_is_kept_when_it_gets_its_place(two, in_ceph, ceph):
    volume = make(two, type=in_ceph)
    snapshot = snap(two, volume)
    instance = launched(two, 1)
    attach(two, instance, volume)
    assert kept(ceph, image_of(volume)) == [str(snapshot.layer_id)]


def test_it_is_kept_under_an_emulator_that_goes_on_in_the_same_image(two, in_ceph, ceph):
    volume, instance = placed(two, type=in_ceph), launched(two, 1)
    attach(two, instance, volume)
    before = two.nodes[0].hypervisor.disks(str(instance.pk))
    snapshot = snap(two, volume)
    assert snapshot.consistency == "crash"
    assert plugged(two, 1, instance) == before
    image = image_of(volume)
    assert kept(ceph, image) == [str(snapshot.layer_id)]
    entry = two.nodes[0].ledger.get(Key("instance", str(instance.pk)))
    assert entry.facts["volumes"][str(volume.pk)]["active"] == str(now(volume).active_id)
    do(snapshots.delete, snapshot=snapshot)
    settle(two)
    two.node.look()
    assert kept(ceph, image) == []
    detach(two, instance, volume)
    assert two.breaches() == []


def test_it_moves_with_what_is_kept_of_it(two, in_ceph, ceph, before):
    volume, other = placed(two, type=in_ceph), launched(two, 2)
    write(ceph, volume, 1)
    snapshot = snap(two, volume)
    write(ceph, volume, 2)
    attach(two, other, volume)
    assert now(volume).active.host.name == "node2"
    detach(two, other, volume)
    do(volumes.revert, volume=now(volume), snapshot=snapshot)
    settle(two)
    assert reads(ceph, volume, 1)
    do(volumes.delete, volume=now(volume), cascade=True)
    settle(two)
    nothing_left(two, ceph, before)


def test_one_that_is_cancelled_keeps_nothing(two, in_ceph, ceph):
    volume = placed(two, type=in_ceph)
    write(ceph, volume, 1)
    do(volumes.snapshot, volume=volume, name="never")
    engine.cancel(Operation.objects.get(finished_at=None).pk, actor=ALICE)
    settle(two)
    assert not Snapshot.objects.exists()
    assert (kept(ceph, image_of(volume)), reads(ceph, volume, 1)) == ([], True)
    assert Layer.objects.get() == now(volume).active
    assert two.breaches() == []


def test_what_was_kept_and_is_lost_is_not_made_anew(two, in_ceph, ceph):
    volume = placed(two, type=in_ceph)
    snapshot = snap(two, volume)
    ceph.rbd("snap", "rm", f"volumes/{image_of(volume)}@{snapshot.layer_id}")
    do(volumes.resize, volume=now(volume), size_gib=2)
    settle(two)
    assert "is missing in Ceph" in Operation.objects.get(kind="storage.resize_volume").reason
    assert Volume.objects.get().active.host is not None


def test_an_instance_that_boots_from_it_is_kept_with_all_of_its_disks(two, in_ceph, ceph, settings, tmp_path):
    settings.IMAGE_STORE = tmp_path
    two.project.quota.limits = {}
    two.project.quota.save()
    image = an_image(tmp_path)
    instance = two.launch(host=host(1), image=image, boot_from=Disk(size_gib=2, type=in_ceph))
    settle(two)
    root, data = Volume.objects.get(), placed(two, type=in_ceph)
    attach(two, instance, data)
    write(ceph, data, 5)
    two.do(services.snapshot, instance, name="monday")
    settle(two)
    assert Operation.objects.get(kind="compute.snapshot").outcome == "done"
    write(ceph, root, 7, "1M 64k")
    write(ceph, data, 7)
    assert plugged(two, 1, instance) == {0: root.serial, 1: data.serial}
    two.do(services.stop, instance)
    settle(two)
    for volume, byte, place in (root, 0, "1M 64k"), (data, 5, "0 64k"):
        do(volumes.revert, volume=now(volume), snapshot=Snapshot.objects.get(volume=volume))
        settle(two)
        assert reads(ceph, volume, byte, place)
    assert reads(ceph, root, 9), "what was on the image"
    two.do(services.start, instance)
    settle(two)
    assert plugged(two, 1, instance) == {0: root.serial, 1: data.serial}
    again = do(volumes.create, project=two.project, name="again", snapshot=Snapshot.objects.get(volume=root))
    settle(two)
    assert (again.bootable, reads(ceph, again, 9)) == (True, True)
    assert two.breaches() == []
