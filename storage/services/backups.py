"""Backups of volumes: made, changed, restored, deleted."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from cloud.changes import change
from cloud.events.services import SYSTEM, Actor, record
from cloud.hosts.models import Allocation
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy import quota
from cloud.uses import Use, refuse_if_used, use
from storage import hosting, importing, pools, trees
from storage.backing_up import BACKUP
from storage.hosting import NoRoom
from storage.models import Backup, ImageImport, Volume, VolumeType
from storage.models.images import GIB
from storage.models.volumes import MAX_SIZE_GIB
from storage.services import volume_types
from storage.services.images import Protected, WrongState
from storage.services.volumes import at_rest, begin_layer, begin_with, for_work, keep, place_where_served, unfit
from storage.workflows import CaptureVolume, RestoreBackup
from storage.workflows.backups import CopyVolume, DeleteBackup, MakeBackup

GIB_OF_A_PART = 1  # of the disk's content that its host has beside the copy
DAYS_FAILED = 7  # that one which failed is shown
AT_ONCE = 100


def create(
    *,
    volume: Volume,
    actor: Actor,
    name: str,
    labels: dict[str, str] | None = None,
    protected: bool = False,
    scheduled: bool = False,
) -> Backup:
    """Back up what is on a volume now, also while a guest uses it. Raises OverQuota, WrongState, NoRoom, Busy."""
    quota.require(volume.project_id, backups=1, backup_gib=1)
    sets_aside = _sets_aside(volume)
    holding = engine.start(CaptureVolume if sets_aside else CopyVolume, volume, actor=actor)
    volume = for_work(volume)
    if why := why_not(volume):
        raise WrongState(why)
    host, layer = volume.active.host, volume.active
    assert host is not None
    of = {"id": str(volume.pk), "name": volume.name}
    if sets_aside:
        begin_layer(volume, over=layer)
        of["layer"] = str(layer.pk)
    backup = Backup.objects.create(
        project_id=volume.project_id, name=name, labels=labels or {}, protected=protected, scheduled=scheduled,
        volume=volume, of=of, size_gib=volume.size_gib, created_by=actor.name,
        bootable=volume.bootable, image=volume.image, kernel_command_line=volume.kernel_command_line,
        boot_files=[file for file in volume.boot_files if file["role"] != "disk"],
    )  # fmt: skip
    holding.parameters = {"backup": str(backup.pk)}
    holding.save(update_fields=["parameters"])
    room = (0 if sets_aside else volume.size_gib) + GIB_OF_A_PART
    try:
        with transaction.atomic():
            row = ImageImport.objects.create(backup=backup, host=host)
            Allocation.objects.create(resource_type=importing.IMAGE, resource_id=row.pk, host=host, disk_gib=room)
    except IntegrityError as full:
        raise NoRoom(f"The host has no room for a copy of the volume ({room} GiB). Try again later.") from full
    engine.start(MakeBackup, backup, actor=actor)
    record("storage.backup.create", backup, actor=actor, after={"name": name, "volume": volume.name})
    return backup


def _sets_aside(volume: Volume) -> bool:
    """Whether what is backed up is kept as it is, and what comes goes to a new layer: in Ceph, and where the host of
    the volume is not that of the emulator which has it open. Elsewhere the active layer is copied first."""
    return volume.type.in_ceph or (volume.type.is_served and volume.attachments.exists())


def why_not(volume: Volume) -> str:
    """Why no backup can be made of a volume, in words; "" when it can."""
    host = volume.active.host
    if host is None:
        return f"Nothing has been written to {volume}: it was never attached."
    if volume.attachments.filter(wanted=False).exists():
        return f"{volume} is being detached just now."
    if not host.capabilities.get("images", {}).get("backup"):
        return "Its host makes no backups: qemu-img is not installed there, or its agent is too old."
    return ""


def update(*, backup: Backup, actor: Actor, changes: Mapping[str, Any]) -> Backup:
    """Change its name, labels or protection."""
    backup, before = change(backup, changes)
    record("storage.backup.update", backup, actor=actor, before=before, after=changes)
    return backup


def restore(
    *,
    backup: Backup,
    actor: Actor,
    name: str,
    size_gib: int | None = None,
    type: VolumeType | None = None,  # noqa: A002 - as the API calls it
    labels: dict[str, str] | None = None,
    protected: bool = False,
) -> Volume:
    """A new volume with what the backup has. Like one made from an image it can be attached on any host, which fetches
    the content then, and looks at each block. Raises UnfitVolume, OverQuota, WrongState.
    """
    backup = complete(backup)
    size = size_gib or backup.size_gib
    if size < backup.size_gib:
        raise unfit("/size_gib", f"{backup} needs {backup.size_gib} GiB; {size} are less.")
    if size > MAX_SIZE_GIB:
        raise unfit("/size_gib", f"A volume has at most {MAX_SIZE_GIB} GiB.")
    quota.require(backup.project_id, volumes=1, volume_gib=size)
    facts = volume_types.facts(backup.project, type, like=backup.volume)
    pools.require_room(facts["type"], size)
    layer = trees.filled(backup, size_gib=size, type=facts["type"])
    volume = Volume.objects.create(
        project_id=backup.project_id, name=name, size_gib=size, active=layer,
        labels=labels or {}, protected=protected, bootable=backup.bootable, image=backup.image,
        boot_files=backup.boot_files, kernel_command_line=backup.kernel_command_line, created_by=actor.name,
        source={"type": "backup", "id": str(backup.pk), "name": backup.name}, **facts,
    )  # fmt: skip
    place_where_served(volume)
    after = {"name": name, "size_gib": size, "type": volume.type.name, "made_from": f"backup {backup}"}
    record("storage.volume.create", volume, actor=actor, after=after)
    record("storage.backup.restore_from", backup, actor=actor, after={"volume": name})
    return volume


def restore_over(*, volume: Volume, actor: Actor, backup: Backup, snapshot: str = "") -> Operation:
    """Have on a volume again what one of its backups has. What was written since is kept as `snapshot`, if that is a
    name, and otherwise lost; the snapshots that there are stay.

    The old content is there until all of the new one is. Raises InUse while it is attached to what is not stopped,
    OverQuota, NoRoom, WrongState, Busy, and UnfitVolume for a backup of another volume.
    """
    if backup.volume_id != volume.pk:
        raise unfit("/backup", f"{backup} is a backup of another volume. Restore it to a new one.")
    if snapshot:
        quota.require(volume.project_id, snapshots=1)
    operation = engine.start(RestoreBackup, volume, actor=actor)
    volume = at_rest(volume)
    backup = complete(backup)
    if snapshot:
        keep(volume, operation, actor=actor, name=snapshot)
    hosting.take_room(volume, more_gib=-(-backup.data_bytes // GIB))
    begin_with(volume, trees.filled_beside(volume.active, backup, size_gib=volume.size_gib))
    after = {"backup": backup.name, "snapshot": snapshot or None}
    record("storage.volume.restore_backup", volume, actor=actor, after=after)
    return operation


def complete(backup: Backup) -> Backup:
    """The backup under its lock, with something to restore; a drill may be under way. Raises WrongState, Busy."""
    backup = Backup.objects.select_for_update(of=("self",)).get(pk=backup.pk)
    if not backup.is_complete:
        raise WrongState(f"{backup} is not ready: there is nothing to restore. {backup.reason}".strip())
    live = engine.lock(BACKUP, backup.pk)
    if live and live.kind == DeleteBackup.kind:
        raise engine.Busy.with_operation(live, str(backup))
    return backup


def delete(*, backup: Backup, actor: Actor) -> Backup:
    """Remove it, or end making it. Blocks that other backups have stay. Raises Protected, InUse."""
    live = engine.lock(BACKUP, backup.pk)
    if live and live.kind == DeleteBackup.kind:
        return backup
    backup = Backup.objects.select_for_update(of=("self",)).get(pk=backup.pk)
    if backup.protected:
        raise Protected(f"{backup} is protected from being deleted. Switch its protection off first.")
    refuse_if_used(backup, users_of(backup), hint="Attach these once, so that they have what is in it, or delete them.")
    engine.start(DeleteBackup, backup, actor=actor)
    record("storage.backup.delete", backup, actor=actor, before={"name": backup.name, "volume": backup.of["name"]})
    return backup


def users_of(backup: Backup) -> list[Use]:
    """Volumes that are to have what is in it, and have not fetched it yet."""
    return [use("volume", one) for layer in backup.layers.all() for one in trees.volumes_on(layer)]


def expire() -> int:
    """Delete those that failed some days ago. How many that were."""
    going = Operation.objects.filter(subject_type=BACKUP, finished_at=None).values("subject_id")
    failed = Backup.objects.filter(status=Backup.Status.FAILED, finished_at__lt=Now() - timedelta(days=DAYS_FAILED))
    due = failed.filter(protected=False).exclude(pk__in=going).order_by("finished_at")[:AT_ONCE]
    for backup in due:
        with transaction.atomic():
            delete(backup=backup, actor=SYSTEM)
    return len(due)
