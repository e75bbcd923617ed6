"""Backups of volumes: what was on one comes back, each block is stored once, and nothing that is needed goes."""

import random
import shutil
from uuid import uuid4

import pytest
import zstandard
from django.db import transaction

from agent import faults
from cloud.events.models import Event
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.uses import InUse
from storage import backing_up, hosting, vault, verifying
from storage.agent.blocks import BLOCK_BYTES, BLOCKS_IN_PART, digest_of, pack, unpack
from storage.agent.images import Images
from storage.models import Backup, BackupBlock, BackupPart, ImageImport, Layer, Volume
from storage.services import backups, volumes
from storage.troubles import damaged_backups
from tests import factories
from tests.clouds import ALICE
from tests.storage.clouds import do, give_volumes, path, placed, qemu_io, reads, settle, write

pytestmark = pytest.mark.django_db(transaction=True)
MIB = 1 << 20
POINTS = sorted(point for point in faults.POINTS if point.startswith(("backup.", "restore.")))


@pytest.fixture
def cloud(cloud, settings, tmp_path):
    """Its node has volumes, and makes backups of them."""
    settings.BACKUP_STORE = tmp_path / "backups"
    settings.IMAGE_STORE = tmp_path / "images"
    cloud.project.quota.limits = {}
    cloud.project.quota.save()
    with_backups(cloud.node)
    return cloud


def with_backups(node):
    node.tools.add(Images(node.tools))
    give_volumes(node)
    return node


def back_up(cloud, volume, **facts):
    made = do(backups.create, volume=volume, name=factories.name("backup"), **facts)
    settle(cloud)
    made.refresh_from_db()
    return made


def restored(cloud, backup):
    """A volume that its host has filled."""
    volume = do(backups.restore, backup=backup, name=factories.name("restored"))
    with transaction.atomic():
        hosting.connect(volume, Host.objects.get(name="node1"))
    settle(cloud)
    return Volume.objects.get(pk=volume.pk)


def path_of(settings, block):
    return settings.BACKUP_STORE / vault.name_of(block)


def store_files(settings):
    return {found.name for found in settings.BACKUP_STORE.glob("*/*/*")}


def test_what_was_on_a_volume_comes_back_and_only_changes_are_stored(cloud, settings):
    volume = placed(cloud)
    write(cloud, volume, 1, "0", "8M")
    write(cloud, volume, 2, "100M", "64k")
    first = back_up(cloud, volume)
    assert (first.status, first.reason, first.consistency) == ("ready", "", "filesystem")
    assert first.data_bytes == 3 * BLOCK_BYTES
    assert not Event.objects.filter(action="storage.image.seen").exists(), "the backup tells of its work"
    assert BackupBlock.objects.count() == 2  # the two that are full of the same are one
    write(cloud, volume, 3, "5M", "64k")
    second = back_up(cloud, volume)
    assert BackupBlock.objects.count() == 3
    assert 0 < second.added_bytes < BLOCK_BYTES
    assert store_files(settings) == {str(pk) for pk in BackupBlock.objects.values_list("pk", flat=True)}
    was, now = restored(cloud, first), restored(cloud, second)
    for one, at_5m in ((was, 1), (now, 3)):
        assert reads(cloud, one, 1, "0", "5M")
        assert reads(cloud, one, at_5m, "5M")
        assert reads(cloud, one, 2, "100M")
        assert reads(cloud, one, 0, "101M", "8M")
    assert not Layer.objects.exclude(backup=None).exists()
    write(cloud, was, 9)
    assert reads(cloud, was, 9)
    assert cloud.breaches() == []


def test_a_backup_goes_and_what_another_one_has_stays(cloud, settings):
    volume = placed(cloud)
    write(cloud, volume, 1)
    write(cloud, volume, 2, "8M")
    first = back_up(cloud, volume)
    write(cloud, volume, 3, "8M")
    second = back_up(cloud, volume)
    do(backups.delete, backup=first)
    settle(cloud)
    assert BackupBlock.objects.count() == len(store_files(settings)) == 2
    do(volumes.delete, volume=volume)
    settle(cloud)
    back = restored(cloud, Backup.objects.get(pk=second.pk))
    assert reads(cloud, back, 1)
    assert reads(cloud, back, 3, "8M")
    do(backups.delete, backup=second)
    settle(cloud)
    assert not BackupBlock.objects.exists()
    assert store_files(settings) == set()


def test_a_backup_that_a_volume_waits_for_is_not_deleted(cloud):
    volume = placed(cloud)
    made = back_up(cloud, volume)
    waiting = do(backups.restore, backup=made, name="waiting")
    with pytest.raises(InUse, match="waiting"):
        do(backups.delete, backup=made)
    do(volumes.delete, volume=waiting)
    settle(cloud)
    do(backups.delete, backup=made)
    settle(cloud)
    assert not Backup.objects.exists()


def test_nothing_readable_is_in_the_store_and_no_project_knows_another_ones_blocks(cloud, settings):
    volume = placed(cloud)
    qemu_io(path(cloud, volume), "write -P 0x41 0 4M")
    back_up(cloud, volume)
    [block] = BackupBlock.objects.all()
    assert b"A" * 16 not in path_of(settings, block).read_bytes()
    assert b"A" * 16 in unpack(vault.read(block))
    digests = {digest_of(b"A" * BLOCK_BYTES, vault.keys_of(key).digest) for key in (cloud.project.pk, uuid4())}
    assert len(digests) == 2
    assert block.digest in digests
    block.project = factories.project()
    path_of(settings, block).parent.mkdir(parents=True)
    shutil.copy(next(settings.BACKUP_STORE.glob("*/*/*")), path_of(settings, block))
    with pytest.raises(vault.Damaged):
        vault.read(block)


def test_a_damaged_block_is_found_and_stored_again_by_the_next_backup(cloud, settings):
    volume = placed(cloud)
    write(cloud, volume, 1)
    first = back_up(cloud, volume)
    verifying.verify()
    first.refresh_from_db()
    assert first.verified_at
    [block] = BackupBlock.objects.all()
    content = bytearray(path_of(settings, block).read_bytes())
    content[len(content) // 2] ^= 1
    path_of(settings, block).write_bytes(content)
    BackupBlock.objects.update(verified_at=None)
    Backup.objects.update(verified_at=None)
    verifying.verify()
    first.refresh_from_db()
    assert (first.status, BackupBlock.objects.get().damaged) == ("damaged", True)
    assert "cannot be read back" in first.reason
    assert damaged_backups()[0] == 1
    back_up(cloud, volume)
    Backup.objects.update(verified_at=None)
    verifying.verify()
    first.refresh_from_db()
    assert (first.status, first.reason) == ("ready", "")
    assert reads(cloud, restored(cloud, first), 1)


class Killed(BaseException):
    """The worker of the host died here."""


def die_at(cloud, monkeypatch, point):
    """Let everything happen until the worker dies at this point; then the next one looks after it."""

    def reach(here):
        if here == point:
            raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(faults, "reach", reach)
        with pytest.raises(Killed):
            settle(cloud)
    cloud.nodes[0] = with_backups(cloud.node.restart())
    settle(cloud)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_goes_on(point, cloud, monkeypatch, settings):
    volume = placed(cloud)
    write(cloud, volume, 1)
    made = do(backups.create, volume=volume, name="backup")
    if point.startswith("backup."):
        die_at(cloud, monkeypatch, point)
    settle(cloud)
    made.refresh_from_db()
    assert (made.status, made.reason) == ("ready", "")
    back = do(backups.restore, backup=made, name="back")
    with transaction.atomic():
        hosting.connect(back, Host.objects.get(name="node1"))
    if point.startswith("restore."):
        die_at(cloud, monkeypatch, point)
    settle(cloud)
    assert reads(cloud, back, 1)
    assert not list(cloud.node.kinds["image"].strangers())
    assert not Allocation.objects.filter(resource_type="image").exists()
    assert len(store_files(settings)) == BackupBlock.objects.count() == 1


def test_nothing_else_is_done_with_a_volume_while_it_is_copied(cloud):
    volume = placed(cloud)
    write(cloud, volume, 1)
    made = do(backups.create, volume=volume, name="backup")
    with pytest.raises(engine.Busy):
        do(volumes.snapshot, volume=volume, name="snap")
    engine.cancel(Operation.objects.get(kind=backing_up.HOLDING).pk, actor=ALICE)
    settle(cloud)
    made.refresh_from_db()
    assert made.status == "failed"
    assert not BackupPart.objects.exists()
    assert not BackupBlock.objects.exists()


class Refusing:
    """The agent API of the node, for one that is hostile."""

    def __init__(self, cloud):
        self.cloud = cloud

    def __call__(self, method, path, body):
        return self.cloud.node._request(method, f"/agent/v1/{path}", body, self.cloud.node.token)


def test_what_a_hostile_host_sends_is_refused(cloud, settings):
    volume = placed(cloud)
    made = do(backups.create, volume=volume, name="backup")
    row = ImageImport.objects.get(backup=made)
    ask = Refusing(cloud)
    status, answer = ask("GET", f"backups/{row.pk}", None)
    digest = digest_of(b"1" * BLOCK_BYTES, bytes.fromhex(answer["key"]))
    rest = [""] * (BLOCKS_IN_PART - 1)
    told = {"run": str(uuid4()), "digests": [digest, *rest]}
    for bad in ([digest], [digest, *rest, ""], ["x" * 64, *rest], [digest + "0", *rest], [1, *rest]):
        assert ask("PUT", f"backups/{row.pk}/parts/0", told | {"digests": bad})[0] == 400
    assert ask("PUT", f"backups/{row.pk}/parts/1", told)[0] == 404
    assert ask("PUT", f"backups/{row.pk}/parts/0", told) == (200, {"missing": [0]})
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * MIB))
    for bad in (b"", b"no frame", pack(b"2" * BLOCK_BYTES), pack(b"1" * BLOCK_BYTES) + b"more", bomb):
        assert ask("PUT", f"backups/{row.pk}/files/0", bad)[0] == 400
    assert ask("PUT", f"backups/{row.pk}/files/1", pack(b"1" * BLOCK_BYTES))[0] == 400
    assert ask("PUT", f"backups/{row.pk}/files/0", random.randbytes(5 * MIB))[0] == 413
    assert store_files(settings) == set()
    engine.advance(Operation.objects.get(kind="storage.back_up").pk)
    other = do(backups.create, volume=placed(cloud), name="other")
    assert ask("GET", f"backups/{uuid4()}", None)[0] == 404
    assert ask("GET", f"restores/{volume.active_id}", None)[0] == 404
    do(backups.delete, backup=other)
    settle(cloud)
    assert ask("PUT", f"backups/{row.pk}/parts/0", told)[0] == 404


def test_a_host_that_claims_to_be_ready_is_not_believed(cloud, monkeypatch):
    volume = placed(cloud)
    write(cloud, volume, 1)
    monkeypatch.setattr("storage.agent.backups.Backup.send", lambda *args: None)
    made = back_up(cloud, volume)
    assert made.status == "failed"
    assert "1 blocks are not in the store" in made.reason


def test_a_full_quota_refuses_further_blocks(cloud):
    cloud.project.quota.limits = {"backup_gib": 1, "backups": 1}
    cloud.project.quota.save()
    BackupBlock.objects.create(project=cloud.project, digest="0" * 64, size=1 << 30)
    volume = placed(cloud)
    write(cloud, volume, 1)
    made = back_up(cloud, volume)
    assert made.status == "failed"
    assert "quota of backup_gib" in made.reason
