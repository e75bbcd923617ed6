"""The trash: deleted volumes wait there for a day, with their snapshots, and come back on demand.

They keep their files, and count in the quota of space and in nothing else.
"""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from cloud.events.services import SYSTEM, Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy import quota
from storage.models import Volume
from storage.services import volumes
from storage.services.volumes import WrongState

log = structlog.get_logger(__name__)

AT_ONCE = 100


def discard(*, volume: Volume, actor: Actor, cascade: bool = False) -> Volume:
    """Put a volume into the trash, with `cascade` also one that has snapshots; without a trash, delete it for good.

    What is under way with it goes on. Raises InUse, Protected.
    """
    engine.lock("volume", volume.pk)
    volume = volumes.locked(volume, failed=True)
    if not settings.TRASH_HOURS or volume.failed_reason:
        volumes.delete(volume=volume, actor=actor, cascade=cascade)
        return volume
    volumes.require_deletable(volume, actor=actor, cascade=cascade)
    volume.trashed_at = Now()
    volume.save(update_fields=["trashed_at"])
    before = {"name": volume.name, "size_gib": volume.size_gib, "trash_hours": settings.TRASH_HOURS}
    record("storage.volume.delete", volume, actor=actor, before=before)
    return volume


def restore(*, volume: Volume, actor: Actor, name: str = "") -> Volume:
    """Take a volume out of the trash, with its snapshots; as `name` if another one is called so now.

    Raises OverQuota, WrongState.
    """
    quota.require(volume.project_id, volumes=1, snapshots=volume.snapshots.count())
    volume = _in_trash(volume)
    volume.trashed_at, volume.name = None, name or volume.name
    volume.save(update_fields=["trashed_at", "name"])
    record("storage.volume.restore", volume, actor=actor, after={"name": volume.name})
    return volume


def purge(*, volume: Volume, actor: Actor) -> Operation:
    """Delete a volume that is in the trash for good. Raises WrongState."""
    live = engine.lock("volume", volume.pk)
    return live if live and live.kind == "storage.delete_volume" else _purge(_in_trash(volume), actor)


def _purge(volume: Volume, actor: Actor) -> Operation:
    return volumes.delete(volume=volume, actor=actor, cascade=True)


def _in_trash(volume: Volume) -> Volume:
    volume = volumes.locked(volume, failed=True)
    live = Operation.objects.filter(subject_type="volume", subject_id=volume.pk, kind="storage.delete_volume")
    if volume.trashed_at is None or live.filter(finished_at=None).exists():
        raise WrongState(f"{volume} is not in the trash.")
    return volume


def empty() -> int:
    """Delete for good what has waited long enough. How many that were."""
    since = Now() - timedelta(hours=settings.TRASH_HOURS)
    going = Operation.objects.filter(kind="storage.delete_volume", finished_at=None).values("subject_id")
    due = Volume.objects.filter(trashed_at__lt=since).exclude(pk__in=going).order_by("trashed_at")
    keys = list(due.values_list("pk", flat=True)[:AT_ONCE])
    for key in keys:
        with transaction.atomic():
            purge(volume=Volume.objects.get(pk=key), actor=SYSTEM)
    return len(keys)
