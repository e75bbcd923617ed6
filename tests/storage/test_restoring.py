"""A backup on the volume that it is of: all of it comes back or nothing changes, and what snapshots keep stays."""

import uuid
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from agent import faults
from cloud.hosts.models import Allocation
from cloud.operations.models import Operation
from cloud.operations.workflow import Topic
from cloud.uses import InUse
from storage.hosting import NoRoom
from storage.models import Backup, BackupBlock, Layer, Snapshot, Volume
from storage.services import attaching, backups, snapshots, volumes
from storage.services.attaching import Holder
from storage.services.volumes import UnfitVolume
from tests.storage.clouds import do, files, kind_of, placed, reads, settle, write
from tests.storage.test_backups import Refusing, back_up, cloud, die_at, path_of  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)
POINTS = sorted(point for point in faults.POINTS if point.startswith(("restore.", "layers.", "volume.after")))


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


def backed_up(cloud, **facts):  # noqa: F811
    """A volume with 1 where its backup was made, and 2 by now; with its backup."""
    volume = placed(cloud, **facts)
    write(cloud, volume, 1, length="5M")
    made = back_up(cloud, volume)
    write(cloud, volume, 2, length="5M")
    return volume, made


def restore(volume, backup, **facts):
    return do(backups.restore_over, volume=volume, backup=backup, **facts)


def ended(operation):
    operation.refresh_from_db()
    return operation.outcome, operation.reason


def require_nothing_left(cloud, volume):  # noqa: F811
    """No room, no layer and no file is kept for what is over."""
    volume.refresh_from_db()
    assert volume.next_id is None
    assert Allocation.of("volume", volume.pk).get().disk_gib == volume.size_gib
    assert files(cloud) == {str(layer.pk) for layer in Layer.objects.all()}
    assert not Layer.objects.exclude(backup=None).exists()
    assert [one for one in cloud.breaches() if "lacks" not in one.words] == []  # a block was removed on purpose


def test_a_volume_has_again_what_its_backup_has_and_its_snapshots_stay(cloud):  # noqa: F811
    volume, made = backed_up(cloud)
    old = do(volumes.snapshot, volume=volume, name="old")
    settle(cloud)
    write(cloud, volume, 3, length="5M")
    operation = restore(volume, made, snapshot="before")
    settle(cloud)
    assert ended(operation) == ("done", "")
    assert reads(cloud, volume, 1, length="5M")
    assert reads(cloud, volume, 0, "5M", "8M")
    require_nothing_left(cloud, volume)
    before = Snapshot.objects.get(name="before")
    assert before.consistency == "filesystem"
    for snapshot, pattern in ((old, 2), (before, 3), (old, 2)):
        do(volumes.revert, volume=volume, snapshot=Snapshot.objects.get(pk=snapshot.pk))
        settle(cloud)
        assert reads(cloud, volume, pattern, length="5M")
    do(snapshots.delete, snapshot=before)
    do(backups.delete, backup=made)
    settle(cloud)
    require_nothing_left(cloud, volume)
    do(volumes.delete, volume=volume, cascade=True)
    settle(cloud)
    assert files(cloud) == set()


def test_without_a_snapshot_the_old_content_goes(cloud):  # noqa: F811
    volume, made = backed_up(cloud)
    was = str(Volume.objects.get(pk=volume.pk).active_id)
    restore(volume, made)
    assert was in files(cloud)
    settle(cloud)
    assert was not in files(cloud)
    assert reads(cloud, volume, 1, length="5M")
    require_nothing_left(cloud, volume)


def test_a_volume_that_has_grown_stays_as_large(cloud):  # noqa: F811
    volume, made = backed_up(cloud)
    do(volumes.resize, volume=volume, size_gib=2)
    settle(cloud)
    restore(volume, made)
    settle(cloud)
    assert reads(cloud, volume, 1, length="5M")
    assert reads(cloud, volume, 0, "1500M")
    require_nothing_left(cloud, volume)


def test_a_restore_that_fails_changes_nothing(cloud, settings):  # noqa: F811
    volume, made = backed_up(cloud)
    path_of(settings, BackupBlock.objects.first()).unlink()
    operation = restore(volume, made, snapshot="before")
    settle(cloud)
    outcome, reason = ended(operation)
    assert outcome == "failed"
    assert "block" in reason
    assert reads(cloud, volume, 2, length="5M")
    assert not Snapshot.objects.exists()
    require_nothing_left(cloud, volume)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_goes_on(point, cloud, monkeypatch):  # noqa: F811
    volume, made = backed_up(cloud)
    operation = restore(volume, made)
    die_at(cloud, monkeypatch, point)
    settle(cloud)
    assert ended(operation) == ("done", "")
    assert reads(cloud, volume, 1, length="5M")
    require_nothing_left(cloud, volume)


def test_its_instance_has_to_be_stopped_and_stay_so(cloud, machine):  # noqa: F811
    volume, made = backed_up(cloud)
    do(attaching.attach, volume=volume, holder=Holder(machine.kind, machine.id, "web", 0))
    machine.rests = False
    with pytest.raises(InUse, match="machine web"):
        restore(volume, made)
    machine.rests = True
    started = restore(volume, made, snapshot="before")
    machine.rests = False
    settle(cloud)
    outcome, reason = ended(started)
    assert (outcome, "started meanwhile" in reason, machine.told) == ("failed", True, 0)
    assert reads(cloud, volume, 2, length="5M")
    require_nothing_left(cloud, volume)
    machine.rests = True
    restore(volume, made, snapshot="before")
    settle(cloud)
    assert machine.told == 1
    assert reads(cloud, volume, 1, length="5M")
    assert Snapshot.objects.get().consistency == "crash"


def test_what_cannot_be_is_refused(cloud):  # noqa: F811
    volume, made = backed_up(cloud)
    with pytest.raises(UnfitVolume, match="another volume"):
        restore(placed(cloud), made)
    Backup.objects.update(data_bytes=500 << 30)
    with pytest.raises(NoRoom, match="second copy"):
        restore(volume, made)
    assert not Operation.objects.filter(finished_at=None).exists()
    require_nothing_left(cloud, volume)


def test_who_waits_for_a_host_that_fetches_sees_how_far_it_is_and_is_patient(cloud):  # noqa: F811
    volume, made = backed_up(cloud)
    operation = restore(volume, made)
    other = Operation.objects.create(
        kind="compute.attach-volume", subject_type="instance", subject_id=uuid.uuid4(), subject_name="web",
        step="bring", waits_for=[str(Topic("volume", volume.pk))], deadline_at=Now(), requested_by="mia",
    )  # fmt: skip
    Operation.objects.filter(pk=operation.pk).update(deadline_at=Now())
    layer = Layer.objects.get(backup=made)
    status, _ = Refusing(cloud)("GET", f"restores/{layer.pk}/parts/0", None)
    assert status == 200
    for one in (operation, other):
        one.refresh_from_db()
        assert one.deadline_at > timezone.now() + timedelta(minutes=5)
        assert (one.progress_done, one.progress_of, one.progress_unit) == (0, 1, "GiB")
    other.delete()


def test_the_file_of_the_image_stays_that_a_snapshot_lies_on(cloud):  # noqa: F811
    """The volume itself does not lie on it any more."""
    volume, made = backed_up(cloud)
    base = {"sha256": "a" * 64, "size": 1, "format": "qcow2"}
    do(volumes.snapshot, volume=volume, name="old")
    settle(cloud)
    restore(volume, made)
    settle(cloud)
    root = Snapshot.objects.get().layer
    Layer.objects.filter(pk=root.pk).update(base=base)
    do(volumes.resize, volume=volume, size_gib=2)
    settle(cloud)
    entry = next(one for one in cloud.node.ledger.entries("volume") if one.id == str(volume.pk))
    assert kind_of(cloud).uses_file(entry, "a" * 64)
