"""The blocks of backups: which there are, which are missing, and which nobody needs any more.

A backup names its blocks before they come. Naming them, and taking one in, shares a project's lock; removing what
nobody names takes it alone. So nothing that a backup was told to be there goes, in whatever order these happen.
"""

import re
import time
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import F, Sum
from django.db.models.functions import Now

from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import Topic
from cloud.problems import Conflict, Invalid
from storage import vault
from storage.agent.blocks import BLOCKS_IN_PART, NotABlock, digest_of, unpack
from storage.models import Backup, BackupBlock, BackupPart, BackupSpace
from storage.models.images import GIB

log = structlog.get_logger(__name__)

BACKUP = "backup"  # as operations call it
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
AT_ONCE = 10_000
HOLDING = "storage.copy_volume"  # the operation that keeps everything else from a volume while its host copies it
SECONDS_UNOWNED = 3600.0  # a file may be about to be written into a row

_NEEDED = """
    SELECT unnest(p.digests) AS digest
    FROM storage_backuppart p JOIN storage_backup b ON b.id = p.backup_id WHERE b.project_id = %s
"""
_LACKING = """
    SELECT count(*) FROM (SELECT DISTINCT unnest(digests) AS digest FROM storage_backuppart WHERE backup_id = %s) n
    WHERE n.digest <> '' AND NOT EXISTS (
        SELECT 1 FROM storage_backupblock o WHERE o.project_id = %s AND o.digest = n.digest AND NOT o.damaged)
"""
_DATA = """
    SELECT count(*) FROM (SELECT unnest(digests) AS digest FROM storage_backuppart WHERE backup_id = %s) n
    WHERE n.digest <> ''
"""


def _lock(project_id: UUID, *, alone: bool = False) -> None:
    """Until the transaction ends."""
    function = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(hashtextextended(%s, 0))", [f"backups:{project_id}"])


def _number(statement: str, *parameters: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, list(parameters))
        return int(cursor.fetchone()[0])


# What hosts say and send


def is_held(backup: Backup) -> bool:
    """Whether nothing else is done with its volume meanwhile, so that a host may copy it."""
    live = Operation.objects.filter(kind=HOLDING, finished_at=None, cancel_requested_at=None)
    return live.filter(parameters__backup=str(backup.pk)).exists()


@transaction.atomic
def note_part(backup: Backup, *, number: int, run: UUID, digests: list[str]) -> list[int]:
    """Write down what is in one GiB of a backup: which of its blocks are still to be sent, by their places in it.

    With the first part the volume has been copied. Raises Conflict when something else may have written to it.
    """
    if backup.copied_at is None:
        _end_copying(backup)
    _lock(backup.project_id)
    BackupPart.objects.update_or_create(backup=backup, number=number, defaults={"run": run, "digests": digests})
    stored = BackupBlock.objects.filter(project=backup.project_id, digest__in=set(digests) - {""}, damaged=False)
    known = {"", *stored.values_list("digest", flat=True)}
    missing = []
    for index, digest in enumerate(digests):
        if digest not in known:
            known.add(digest)
            missing.append(index)
    return missing


def _end_copying(backup: Backup) -> None:
    if backup.volume_id is not None:
        engine.lock("volume", backup.volume_id)
    if not is_held(backup):
        raise Conflict("Something else may have been done with the volume while it was copied.")
    Backup.objects.filter(pk=backup.pk).update(copied_at=Now())
    engine.tell_waiting(Topic(BACKUP, backup.pk))


def take_block(backup: Backup, *, index: int, packed: bytes) -> None:
    """Keep a block that a host has sent. It is looked at: a host could send another one under its name, and so spoil
    the backups of other hosts. Raises Invalid.
    """
    part = BackupPart.objects.filter(backup=backup, number=index // BLOCKS_IN_PART).first()
    expected = part.digests[index % BLOCKS_IN_PART] if part else ""
    try:
        digest = digest_of(unpack(packed), vault.keys_of(backup.project_id).digest)
    except NotABlock as problem:
        raise Invalid(f"This is no block of a backup: {problem}.") from problem
    if not digest or digest != expected:
        raise Invalid("This is not the block that the backup has there.")
    block = BackupBlock(project_id=backup.project_id, digest=digest)
    block.size = vault.keep(block, packed)
    if not _write(backup, block):
        vault.remove(block)


@transaction.atomic
def _write(backup: Backup, block: BackupBlock) -> bool:
    """Write a block down that is in the store; False when it is there already, or nobody wants it any more."""
    _lock(backup.project_id)
    if not Backup.objects.filter(pk=backup.pk, status=Backup.Status.MAKING).exists():
        return False
    damaged = BackupBlock.objects.filter(project=block.project_id, digest=block.digest, damaged=True)
    gone = list(damaged.select_for_update())
    damaged.delete()
    transaction.on_commit(lambda: vault.remove(*gone), robust=True)
    [made] = BackupBlock.objects.bulk_create([block], ignore_conflicts=True)
    is_new = BackupBlock.objects.filter(pk=made.pk).exists()
    if is_new:
        Backup.objects.filter(pk=backup.pk).update(added_bytes=F("added_bytes") + block.size)
    return is_new


# What a backup has


def lacking(backup: Backup) -> int:
    """How many of its blocks are not in the store, or damaged there."""
    return _number(_LACKING, backup.pk, backup.project_id)


def data_blocks(backup: Backup) -> int:
    """How many of its blocks are not zeros."""
    return _number(_DATA, backup.pk)


def stored_bytes(project_id: UUID) -> int:
    """What a project's blocks take of the store."""
    return int(BackupBlock.objects.filter(project=project_id).aggregate(sum=Sum("size"))["sum"] or 0)


def sum_up(project_id: UUID) -> None:
    """Note what the quota counts."""
    stored = stored_bytes(project_id)
    facts = {"bytes": stored, "gib": -(-stored // GIB)}
    BackupSpace.objects.update_or_create(project_id=project_id, defaults=facts)


# What nobody needs


def prune(project_id: UUID) -> int:
    """Remove the blocks of a project that none of its backups has. How many that were."""
    with transaction.atomic():
        _lock(project_id, alone=True)
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                DELETE FROM storage_backupblock o WHERE o.project_id = %s
                    AND NOT EXISTS (SELECT 1 FROM ({_NEEDED}) n WHERE n.digest = o.digest) RETURNING o.id
                """,
                [project_id, project_id],
            )
            gone = [BackupBlock(pk=key, project_id=project_id) for (key,) in cursor.fetchall()]
        sum_up(project_id)
    vault.remove(*gone)
    if gone:
        log.info("backups.pruned", project=str(project_id), blocks=len(gone))
    return len(gone)


def prune_soon(project_id: UUID) -> None:
    """Once this transaction has committed. What dies in between is left to `prune_all`."""
    transaction.on_commit(lambda: prune(project_id) and None, robust=True)


def prune_all() -> int:
    """Remove what no backup needs, of every project."""
    projects = list(BackupBlock.objects.values_list("project", flat=True).distinct())
    return sum(prune(project) for project in projects)


def unneeded() -> dict[UUID, int]:
    """By project, how many blocks none of its backups has."""
    statement = f"SELECT count(*) FROM storage_backupblock o WHERE o.project_id = %s AND o.digest NOT IN ({_NEEDED})"
    projects = BackupBlock.objects.values_list("project", flat=True).distinct()
    found = {project: _number(statement, project, project) for project in projects}
    return {project: number for project, number in found.items() if number}


def unowned() -> list[str]:
    """Files of the store, called by a block's id, that no block owns, and that did not just come."""
    old = time.time() - SECONDS_UNOWNED
    there = {name.rpartition("/")[2]: name for name, came in vault.place().files() if came < old}
    names = [name for name in there if ID.fullmatch(name)]
    for start in range(0, len(names), AT_ONCE):
        ids = names[start : start + AT_ONCE]
        for known in BackupBlock.objects.filter(pk__in=ids).values_list("pk", flat=True):
            del there[str(known)]
    return sorted(there.values())


def sweep() -> int:
    """Remove what `unowned` finds. How many files that were."""
    if gone := unowned():
        vault.place().remove(*gone)
    return len(gone)
