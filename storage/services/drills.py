"""Restore drills: that a backup can be restored is shown by restoring it, to a file that nobody uses."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from cloud.events.services import SYSTEM, Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from storage.models import Backup, BackupPolicy
from storage.services.backups import complete
from storage.workflows.drills import DrillBackup

MAX_AT_ONCE = 2  # that the cloud has under way by itself


def drill(*, backup: Backup, actor: Actor) -> Operation:
    """Have a host restore it to a file, read that back, and remove it. It counts in nobody's quota.

    Raises WrongState, Busy.
    """
    backup = complete(backup)
    operation = engine.start(DrillBackup, backup, actor=actor)
    record("storage.backup.drill", backup, actor=actor)
    return operation


def run_due() -> int:
    """Begin the drills whose time has come: of the newest backup of each volume that is backed up by itself, when none
    of that volume was drilled for `DRILL_DAYS`. How many that were.
    """
    if settings.DRILL_DAYS <= 0:
        return 0
    room = MAX_AT_ONCE - Operation.objects.filter(kind=DrillBackup.kind, finished_at=None).count()
    begun = 0
    for policy in _due()[: max(room, 0)]:
        ready = Backup.objects.filter(volume=policy.volume_id, status=Backup.Status.READY)
        newest = ready.order_by("-created_at").first()
        if newest is not None:
            with transaction.atomic():
                drill(backup=newest, actor=SYSTEM)
            begun += 1
    return begun


def _due() -> list[BackupPolicy]:
    """Those that a drill, or one that could not be done, was longest ago; a try that failed comes again after a day."""
    backups = Backup.objects.filter(volume=OuterRef("volume"))
    ready = backups.filter(status=Backup.Status.READY)
    lately = backups.filter(drilled_at__gt=Now() - timedelta(days=settings.DRILL_DAYS))
    tried = Operation.objects.filter(
        Q(finished_at=None) | Q(started_at__gt=Now() - timedelta(days=1)),
        kind=DrillBackup.kind,
        subject_id__in=Backup.objects.filter(volume=OuterRef(OuterRef("volume"))).values("pk"),
    )
    policies = BackupPolicy.objects.filter(Exists(ready), enabled=True, volume__trashed_at=None)
    return list(policies.exclude(Exists(lately)).exclude(Exists(tried)).order_by("created_at")[:MAX_AT_ONCE])
