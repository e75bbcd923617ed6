"""Backups and images of volumes in Ceph: read from what is kept of an image, restored to an image."""

import hashlib

import pytest
from django.db import transaction

from agent import faults
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.engine import Busy
from cloud.operations.models import Operation
from storage import hosting
from storage.agent.images import Images
from storage.models import Backup, BackupBlock, Layer, Snapshot, Volume
from storage.services import backups, captures, images, snapshots, volumes
from tests import factories
from tests.clouds import wait_until
from tests.storage.ceph_clouds import attach, image_of, kept, launched, now, reads, reported, write
from tests.storage.clouds import do, give_volumes, placed, qemu_io, settle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet_bells")]
OF_BACKUPS = [one for one in faults.POINTS if one.startswith(("backup.before", "restore."))]
OF_IMAGES = ["rbd.before_keep", "rbd.before_forget", "rbd.before_rename"]


@pytest.fixture
def cloud(two, settings, tmp_path):
    """Its hosts make backups and images."""
    settings.BACKUP_STORE, settings.IMAGE_STORE = tmp_path / "backups", tmp_path / "images"
    settings.IMAGE_STORE.mkdir()
    two.project.quota.limits = {}
    two.project.quota.save()
    for number in (1, 2):
        able(two, number)
    return two


def able(cloud, number):
    node = cloud.nodes[number - 1]
    node.tools.add(Images(node.tools))
    give_volumes(node)
    wait_until(lambda: reported(cloud, number))


@pytest.fixture
def cluster(ceph, cloud):
    return ceph


def back_up(cloud, volume, **facts):
    made = do(backups.create, volume=now(volume), name=factories.name("backup"), **facts)
    settle(cloud)
    return Backup.objects.get(pk=made.pk)


def restored(cloud, backup, **how):
    volume = do(backups.restore, backup=backup, name=factories.name("restored"), **how)
    with transaction.atomic():
        hosting.connect(volume, Host.objects.get(name="node1"))
    settle(cloud)
    return now(volume)


def test_what_was_on_a_volume_comes_back_and_only_changes_are_stored(cloud, in_ceph, cluster):
    volume = placed(cloud, type=in_ceph, size_gib=2)
    write(cluster, volume, 1, "0 8M")
    write(cluster, volume, 2, "1500M 64k")
    first = back_up(cloud, volume)
    assert (first.status, first.reason, first.consistency) == ("ready", "", "filesystem")
    assert BackupBlock.objects.count() == 2, "the two that are full of the same are one"
    assert (kept(cluster, image_of(volume)), Layer.objects.count()) == ([], 1), "nothing stays of it"
    write(cluster, volume, 3, "5M 64k")
    second = back_up(cloud, volume)
    assert BackupBlock.objects.count() == 3
    was, since = restored(cloud, first), restored(cloud, second, size_gib=3)
    for one, at_5m in ((was, 1), (since, 3)):
        assert one.type == in_ceph
        assert all(reads(cluster, one, byte, place) for byte, place in (
            (1, "0 5M"), (at_5m, "5M 64k"), (2, "1500M 64k"), (0, "1501M 8M")))  # fmt: skip
    assert f'"size":{3 << 30},' in cluster.rbd("info", "--format", "json", f"volumes/{image_of(since)}")
    assert not Layer.objects.exclude(backup=None).exists()
    assert not Allocation.objects.filter(resource_type="image").exists()
    assert cloud.breaches() == []


def test_a_backup_leaves_ceph_and_comes_back_to_it(cloud, in_ceph, cluster):
    local = make_local(cloud)
    volume = placed(cloud, type=in_ceph)
    write(cluster, volume, 1)
    made = back_up(cloud, volume)
    outside = restored(cloud, made, type=local)
    assert outside.active.rbd is None
    again = restored(cloud, back_up(cloud, outside), type=in_ceph)
    assert reads(cluster, again, 1)
    assert cloud.breaches() == []


def make_local(cloud):
    made = placed(cloud)
    do(volumes.delete, volume=made)
    settle(cloud)
    return made.type


def test_a_backup_of_what_runs_is_of_one_moment_and_nothing_waits_for_it(cloud, in_ceph, cluster):
    volume, instance = placed(cloud, type=in_ceph), launched(cloud, 1)
    attach(cloud, instance, volume)
    write(cluster, volume, 1)
    made = do(backups.create, volume=now(volume), name="monday")
    while Operation.objects.filter(subject_type="volume", finished_at=None).exists():
        advance_without_hosts_of_images(cloud)
    write(cluster, volume, 2)
    snapshot = do(volumes.snapshot, volume=now(volume), name="meanwhile")
    settle(cloud)
    made.refresh_from_db()
    assert (made.status, made.consistency) == ("ready", "crash")
    assert reads(cluster, restored(cloud, made), 1)
    assert kept(cluster, image_of(volume)) == [str(Snapshot.objects.get(pk=snapshot.pk).layer_id)]
    assert cloud.breaches() == []


def advance_without_hosts_of_images(cloud):
    """One turn of what is done with volumes: backups themselves wait."""
    for key in Operation.objects.filter(finished_at=None).exclude(kind="storage.back_up").values_list("pk", flat=True):
        Operation.objects.filter(pk=key).update(due_at=Operation.objects.get(pk=key).started_at)
        engine.advance(key)
    for node in cloud.nodes:
        node.look()


def test_it_is_restored_over_the_same_volume(cloud, in_ceph, cluster):
    volume = placed(cloud, type=in_ceph)
    write(cluster, volume, 1, "0 5M")
    made = back_up(cloud, volume)
    write(cluster, volume, 2, "0 5M")
    old = do(volumes.snapshot, volume=now(volume), name="old")
    settle(cloud)
    write(cluster, volume, 3, "0 5M")
    do(volumes.resize, volume=now(volume), size_gib=2)
    settle(cloud)
    do(backups.restore_over, volume=now(volume), backup=made, snapshot="before")
    settle(cloud)
    assert (reads(cluster, volume, 1, "0 5M"), reads(cluster, volume, 0, "5M 8M")) == (True, True)
    before = Snapshot.objects.get(name="before")
    for snapshot, pattern in ((old, 2), (before, 3), (old, 2)):
        do(volumes.revert, volume=now(volume), snapshot=Snapshot.objects.get(pk=snapshot.pk))
        settle(cloud)
        assert reads(cluster, volume, pattern, "0 5M")
    assert cloud.breaches() == []
    images = {str(rbd) for rbd in Layer.objects.values_list("rbd", flat=True)}
    do(backups.restore_over, volume=now(volume), backup=made)
    settle(cloud)
    assert reads(cluster, volume, 1, "0 5M")
    for snapshot in Snapshot.objects.all():
        do(snapshots.delete, snapshot=snapshot)
        settle(cloud)
    assert Layer.objects.get() == now(volume).active
    assert not images & cluster.images(), "nothing of the old ones is left"
    assert cloud.breaches() == []


def test_it_goes_back_to_nothing_while_a_backup_is_being_made(cloud, in_ceph, cluster):
    volume = placed(cloud, type=in_ceph)
    snapshot = do(volumes.snapshot, volume=now(volume), name="old")
    settle(cloud)
    do(backups.create, volume=now(volume), name="monday")
    while Operation.objects.filter(subject_type="volume", finished_at=None).exists():
        advance_without_hosts_of_images(cloud)
    with pytest.raises(Busy, match="monday"):
        do(volumes.revert, volume=now(volume), snapshot=Snapshot.objects.get(pk=snapshot.pk))


@pytest.mark.parametrize("what", ["backup", "image"])
def test_what_is_deleted_in_the_making_leaves_nothing_in_ceph(what, cloud, in_ceph, cluster):
    volume = placed(cloud, type=in_ceph)
    if what == "backup":
        made = do(backups.create, volume=now(volume), name="monday")
    else:
        made = do(captures.of_volume, volume=now(volume), name="image")
    while Operation.objects.filter(subject_type="volume", finished_at=None).exists():
        advance_without_hosts_of_images(cloud)
    assert kept(cluster, image_of(volume)), "what is made is made of this"
    do((backups if what == "backup" else images).delete, **{what: made})
    settle(cloud)
    assert not type(made).objects.filter(pk=made.pk).exists()
    assert kept(cluster, image_of(volume)) == []
    assert cloud.breaches() == []


class Killed(BaseException):
    """The worker of the host died here."""


def settle_and_die(cloud, monkeypatch, point):
    """Let everything happen; once, when this point is reached, the worker dies and the next one looks after it."""
    died = []

    def reach(here):
        if here == point and not died:
            died.append(here)
            raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(faults, "reach", reach)
        try:
            settle(cloud)
        except Killed:
            cloud.nodes[0] = cloud.node.restart()
            able(cloud, 1)
    settle(cloud)
    return died


@pytest.mark.parametrize("point", sorted([*OF_BACKUPS, *OF_IMAGES]))
def test_a_worker_that_dies_is_followed_by_one_that_goes_on(point, cloud, in_ceph, cluster, monkeypatch):
    volume = placed(cloud, type=in_ceph)
    write(cluster, volume, 1)
    made = do(backups.create, volume=now(volume), name="backup")
    died = settle_and_die(cloud, monkeypatch, point)
    made.refresh_from_db()
    assert (made.status, made.reason) == ("ready", "")
    assert kept(cluster, image_of(volume)) == []
    back = do(backups.restore, backup=made, name="back")
    with transaction.atomic():
        hosting.connect(back, Host.objects.get(name="node1"))
    died += settle_and_die(cloud, monkeypatch, point)
    assert reads(cluster, back, 1)
    assert died, "no run reached it"
    assert not list(cloud.node.kinds["volume"].layers.directory.iterdir())
    assert cloud.breaches() == []


def test_an_image_of_a_volume_and_of_a_snapshot(cloud, in_ceph, cluster, settings, tmp_path):
    volume, instance = placed(cloud, type=in_ceph), launched(cloud, 1)
    attach(cloud, instance, volume)
    write(cluster, volume, 1, "0 2M")
    snapshot = do(volumes.snapshot, volume=now(volume), name="old")
    settle(cloud)
    write(cluster, volume, 2, "1M 64k")
    of_now = do(captures.of_volume, volume=now(volume), name="now")
    settle(cloud)
    of_snapshot = do(captures.of_snapshot, snapshot=Snapshot.objects.get(pk=snapshot.pk), name="then")
    settle(cloud)
    for made, at_1m in ((of_now, 2), (of_snapshot, 1)):
        made.refresh_from_db()
        assert (made.status, made.reason) == ("ready", ""), made.reason
        file = settings.IMAGE_STORE / made.files[0]["sha256"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == made.files[0]["sha256"]
        for byte, place in ((1, "0 1M"), (at_1m, "1M 64k"), (0, "2M 8M")):
            assert "verification failed" not in qemu_io(file, f"read -P {byte} {place}")
        assert made.min_disk_gib == 1
    assert kept(cluster, image_of(volume)) == [str(Snapshot.objects.get().layer_id)], "what the image was made of goes"
    assert cloud.breaches() == []
    again = do(volumes.create, project=cloud.project, name="again", image=of_now, type=in_ceph)
    attach(cloud, instance, again)
    assert reads(cluster, again, 2, "1M 64k")


def test_a_volume_that_is_deleted_takes_along_what_is_being_backed_up(cloud, in_ceph, cluster):
    before = cluster.images()
    volume = placed(cloud, type=in_ceph)
    made = do(backups.create, volume=now(volume), name="monday")
    do(volumes.delete, volume=now(volume))
    settle(cloud)
    made.refresh_from_db()
    assert made.status in ("ready", "failed")
    assert made.reason or made.status == "ready"
    assert (Volume.objects.exists(), cluster.images()) == (False, before)
    assert cloud.breaches() == []
