"""Restore drills: what can be restored is told from what cannot, hosts keep nothing of it, and it happens by itself."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from agent import faults
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from storage.agent import filesystems
from storage.models import Backup, BackupBlock, ImageImport
from storage.services import backups, drills, policies, trash
from storage.services.images import WrongState
from storage.troubles import failed_drills
from tests.storage.clouds import do, path, placed, qemu_io, settle, write
from tests.storage.test_backups import Refusing, back_up, cloud, die_at, path_of  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)
SUPERBLOCK = 1080


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


def backed_up(cloud):  # noqa: F811
    """Of a volume with the mark of an ext filesystem."""
    volume = placed(cloud)
    qemu_io(path(cloud, volume), f"write -P 0x53 {SUPERBLOCK} 1")
    qemu_io(path(cloud, volume), f"write -P 0xef {SUPERBLOCK + 1} 1")
    write(cloud, volume, 7, "100M", "5M")
    return volume, back_up(cloud, volume)


def drilled(cloud, backup):  # noqa: F811
    operation = do(drills.drill, backup=backup)
    settle(cloud)
    operation.refresh_from_db()
    backup.refresh_from_db()
    return operation


def require_nothing_left(cloud):  # noqa: F811
    assert not ImageImport.objects.exists()
    assert not Allocation.objects.filter(resource_type="image").exists()
    assert not list(cloud.node.kinds["image"].strangers())


def test_a_backup_that_can_be_restored_says_so_and_what_is_on_it(cloud):  # noqa: F811
    cloud.project.quota.limits = {"backups": 1, "volumes": 1}
    cloud.project.quota.save()
    _, made = backed_up(cloud)
    assert drilled(cloud, made).outcome == "done"
    assert made.drilled_at
    assert (made.drill_problem, made.drill_found, made.status) == ("", ["ext"], "ready")
    assert failed_drills() == (0, [])
    require_nothing_left(cloud)
    assert cloud.breaches() == []


def test_one_whose_block_is_lost_fails_and_is_on_the_health_page(cloud, settings):  # noqa: F811
    _, made = backed_up(cloud)
    path_of(settings, BackupBlock.objects.first()).unlink()
    operation = drilled(cloud, made)
    assert operation.outcome == "failed"
    assert "missing in the store" in made.drill_problem
    count, [case] = failed_drills()
    assert (count, case.name) == (1, made.name)
    require_nothing_left(cloud)


def test_what_a_host_cannot_do_says_nothing_of_the_backup(cloud):  # noqa: F811
    _, made = backed_up(cloud)
    Host.objects.update(offers=[])
    operation = do(drills.drill, backup=made)
    for _ in range(3):
        Operation.objects.filter(pk=operation.pk).update(due_at=Now())
        cloud.node.look()
    assert do(backups.restore, backup=made, name="meanwhile").name == "meanwhile"
    Operation.objects.filter(pk=operation.pk).update(deadline_at=Now() - timedelta(minutes=1))
    settle(cloud)
    made.refresh_from_db()
    assert (made.drilled_at, made.drill_problem) == (None, "")
    require_nothing_left(cloud)


def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_goes_on(cloud, monkeypatch):  # noqa: F811
    _, made = backed_up(cloud)
    assert "drill.before_reading" in faults.POINTS
    operation = do(drills.drill, backup=made)
    die_at(cloud, monkeypatch, "drill.before_reading")
    operation.refresh_from_db()
    assert operation.outcome == "done"
    require_nothing_left(cloud)


def test_only_its_host_reads_it_and_only_while_it_is_drilled(cloud):  # noqa: F811
    volume, made = backed_up(cloud)
    ask = Refusing(cloud)
    assert ask("GET", f"drills/{made.pk}/parts/0", None)[0] == 404
    engine.advance(do(drills.drill, backup=made).pk)
    row = ImageImport.objects.get(backup=made, wanted=True)
    assert ask("GET", f"drills/{row.pk}/parts/0", None)[0] == 200
    assert ask("GET", f"drills/{row.pk}/parts/1", None)[0] == 404
    assert ask("PUT", f"backups/{row.pk}/parts/0", {"run": str(uuid4()), "digests": [""] * 256})[0] == 404
    settle(cloud)
    assert ask("GET", f"drills/{row.pk}/parts/0", None)[0] == 404
    with pytest.raises(WrongState, match="nothing to restore"):
        do(drills.drill, backup=do(backups.create, volume=volume, name="unfinished"))
    settle(cloud)


def test_the_newest_backup_of_each_scheduled_volume_is_drilled_in_its_time(cloud, settings):  # noqa: F811
    volume, old = backed_up(cloud)
    new = back_up(cloud, volume)
    assert drills.run_due() == 0
    do(policies.set_policy, volume=volume, schedule="0 3 * * *", time_zone="UTC", keep_daily=7)
    settings.DRILL_DAYS = 0
    assert drills.run_due() == 0
    settings.DRILL_DAYS = 30
    assert (drills.run_due(), drills.run_due()) == (1, 0)
    settle(cloud)
    assert Backup.objects.get(pk=new.pk).drilled_at
    assert not Backup.objects.get(pk=old.pk).drilled_at
    Operation.objects.update(started_at=Now() - timedelta(days=2))
    assert drills.run_due() == 0
    Backup.objects.filter(pk=new.pk).update(drilled_at=Now() - timedelta(days=31))
    do(trash.discard, volume=volume)
    assert drills.run_due() == 0
    do(trash.restore, volume=volume)
    assert drills.run_due() == 1
    settle(cloud)


def test_marks_are_found_in_partitions_and_nothing_is_made_of_noise(tmp_path):
    disk = tmp_path / "disk"

    def found(*writes):
        disk.write_bytes(bytes(4 << 20))
        with disk.open("r+b") as file:
            for at, content in writes:
                file.seek(at)
                file.write(content)
        return filesystems.found_on(disk)

    entry = bytes([0x80, 0, 0, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (100).to_bytes(4, "little")
    mbr = ((446, entry), (510, b"\x55\xaa"))
    gpt_entry = b"x" * 32 + (4096).to_bytes(8, "little") * 2
    sizes = (2).to_bytes(8, "little") + (128).to_bytes(4, "little") + (128).to_bytes(4, "little")
    gpt = ((512, b"EFI PART"), (512 + 72, sizes), (1024, gpt_entry))
    assert found() == []
    assert found((0, b"XFSB")) == ["XFS"]
    assert found(*mbr, ((1 << 20) + SUPERBLOCK, b"\x53\xef")) == ["partitions", "ext"]
    assert found(*gpt, ((2 << 20) + 0x10040, b"_BHRfS_M")) == ["partitions", "Btrfs"]
    assert found((0, b"\xff" * (1 << 20))) == []
    assert found((512, b"EFI PART" + b"\xff" * 500)) == []
