"""Backups are read back: what cannot be read is known before somebody needs it, and is stored again by the next one."""

import time
from datetime import timedelta

import structlog
from django.db.models import F, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from storage import vault
from storage.models import Backup, BackupBlock

log = structlog.get_logger(__name__)

SECONDS = 60.0  # at a time
AGAIN_AFTER = timedelta(days=7)
AT_ONCE = 64
DAMAGED = "{} of its blocks cannot be read back. The next backup stores again those that the volume still has."

_DIGESTS = "SELECT unnest(digests) FROM storage_backuppart WHERE backup_id = %s"


def verify(seconds: float = SECONDS) -> None:
    """Read back blocks of the backups that were not read back for longest, until the time is over. Raises OSError."""
    deadline = time.monotonic() + seconds
    complete = Backup.objects.filter(status__in=(Backup.Status.READY, Backup.Status.DAMAGED))
    due = complete.filter(Q(verified_at=None) | Q(verified_at__lt=Now() - AGAIN_AFTER))
    for backup in due.order_by(F("verified_at").asc(nulls_first=True), "created_at").iterator():
        if not _read_back(backup, deadline):
            return
        conclude(backup)


def _read_back(backup: Backup, deadline: float) -> bool:
    """Whether the time was enough for all of its blocks that were not read back lately, for other backups."""
    stale = blocks_of(backup).filter(Q(verified_at=None) | Q(verified_at__lt=Now() - AGAIN_AFTER)).order_by("pk")
    while blocks := list(stale[:AT_ONCE]):
        for block in blocks:
            if time.monotonic() > deadline:
                return False
            try:
                vault.verify(block)
                damaged = False
            except vault.Damaged as problem:
                damaged = True
                log.error("backups.damaged", block=str(block.pk), project=str(block.project_id), problem=str(problem))
            BackupBlock.objects.filter(pk=block.pk).update(verified_at=Now(), damaged=damaged)
    return True


def conclude(backup: Backup) -> None:
    """Say of a backup what its blocks are like."""
    damaged = blocks_of(backup).filter(damaged=True).count()
    status = Backup.Status.DAMAGED if damaged else Backup.Status.READY
    complete = Backup.objects.filter(pk=backup.pk, status__in=(Backup.Status.READY, Backup.Status.DAMAGED))
    complete.update(status=status, reason=DAMAGED.format(damaged) if damaged else "", verified_at=Now())


def blocks_of(backup: Backup) -> "QuerySet[BackupBlock]":
    return BackupBlock.objects.filter(project=backup.project_id, digest__in=RawSQL(_DIGESTS, [backup.pk]))
