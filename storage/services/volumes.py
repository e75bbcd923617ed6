"""Volumes: made, changed, grown, snapshotted, cloned, reverted, deleted."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import IntegrityError, transaction

from cloud.changes import change
from cloud.events.services import Actor, record
from cloud.hosts.hosted import raise_generation
from cloud.hosts.models import Allocation
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Conflict, Fault, Problem
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from cloud.uses import Use, refuse_if_used, use
from storage import hosting, pools, prices, trees
from storage.holders import kind_of
from storage.models import Backup, Image, Layer, Snapshot, Volume, VolumeType
from storage.models.images import GIB
from storage.models.volumes import MAX_SIZE_GIB
from storage.services import volume_types
from storage.workflows import (
    CloneVolume,
    CreateVolume,
    DeleteVolume,
    ResizeVolume,
    RevertVolume,
    SnapshotVolume,
)

COPIED = ("bootable", "image", "boot_files", "kernel_command_line")


class UnfitVolume(Problem):
    """A volume cannot be like this; `errors` names every fault."""

    title: ClassVar[str] = "The volume cannot be like this"


class WrongState(Conflict):
    """It makes no sense as the volume is now."""

    title: ClassVar[str] = "Not possible in this state"


class Protected(Conflict):
    """Somebody has switched on its protection from being deleted."""

    title: ClassVar[str] = "This is protected from being deleted"


def create(
    *,
    project: Project,
    actor: Actor,
    name: str,
    size_gib: int | None = None,
    type: VolumeType | None = None,  # noqa: A002 - as the API calls it
    labels: dict[str, str] | None = None,
    image: Image | None = None,
    disk: int = 0,
    snapshot: Snapshot | None = None,
    volume: Volume | None = None,
    protected: bool = False,
) -> Volume:
    """A volume that is empty, or has what an image, a snapshot or another volume has now. `disk`: which of the image's
    disks; one boots from the first, which is number 0.

    Without a size it is as large as what it is made from. Raises UnfitVolume, OverQuota, NoRoom, WrongState, Busy.
    """
    if volume is not None:
        how: dict[str, Any] = {"size_gib": size_gib, "type": type, "labels": labels, "protected": protected}
        return clone(volume=volume, actor=actor, name=name, **how)
    facts: dict[str, Any] = {"labels": labels or {}, "protected": protected, "created_by": actor.name}
    facts |= volume_types.facts(project, type, like=snapshot.volume if snapshot else None)
    size = _fit(size_gib, image=image, disk=disk, snapshot=snapshot)
    quota.require(project, volumes=1, volume_gib=size)
    pools.require_room(facts["type"], size)
    if snapshot is not None:
        return _make_over(snapshot.layer, snapshot.volume, snapshot, name=name, size_gib=size, actor=actor, **facts)
    if image is not None:
        layer = trees.first(size_gib=size, base=disk_of(image, disk), type=facts["type"])
        facts |= {"image": image, "source": _source(use("image", image))}
        if disk == 0:
            facts |= {"bootable": True, "boot_files": image.boot_files}
            facts |= {"kernel_command_line": image.kernel_command_line}
    else:
        layer = trees.first(size_gib=size, type=facts["type"])
    made = Volume.objects.create(project=project, name=name, size_gib=size, active=layer, **facts)
    place_where_served(made)
    _record_create(made, actor)
    return made


def place_where_served(made: Volume) -> None:
    """A new volume that a storage host serves is there from the beginning, with its room. Raises NoRoom."""
    if not made.type.is_served:
        return
    host = pools.storage_host(made.type)
    try:
        with transaction.atomic():
            hosting.place(made, host)
    except IntegrityError as full:
        words = f"The storage host of volumes of the type {made.type} has no room for {made.size_gib} GiB."
        raise hosting.NoRoom(f"{words} Delete what is no longer needed, or ask an admin of the cloud.") from full


def _fit(size_gib: int | None, *, image: Image | None = None, disk: int = 0, snapshot: Snapshot | None = None) -> int:
    """How large it is to be. Raises UnfitVolume."""
    least = 0
    of: Image | Snapshot | None = image or snapshot
    if image is not None:
        if not image.is_ready:
            raise unfit("/image", f"{image} is not ready: it is {image.status}.")
        if disk_of(image, disk) is None:
            raise unfit("/image", f"{image} has no disk that a volume could begin with.")
        least = min_size_of(image, disk)
    if snapshot is not None:
        if not snapshot.consistency:
            raise WrongState(f"{snapshot} is not taken yet. Wait for it.")
        least = snapshot.size_gib
    size = size_gib or least
    if not size:
        raise unfit("/size_gib", "Say how large it is to be.")
    if size < least:
        raise unfit("/size_gib", f"{of} needs {least} GiB; {size} are less.")
    if size > MAX_SIZE_GIB:
        raise unfit("/size_gib", f"A volume has at most {MAX_SIZE_GIB} GiB.")
    return size


def disk_of(image: Image, disk: int = 0) -> dict[str, Any] | None:
    """The file that volumes made from a disk of an image begin with; None when it has no such disk."""
    files = image.disks[disk : disk + 1]
    return {key: files[0][key] for key in ("sha256", "size", "format")} if files else None


def min_size_of(image: Image, disk: int = 0) -> int:
    """How many GiB a volume made from a disk of an image has at least."""
    return image.min_disk_gib if disk == 0 else max(1, -(-int(image.disks[disk].get("virtual_bytes") or 0) // GIB))


def unfit(pointer: str, words: str) -> UnfitVolume:
    return UnfitVolume(words, errors=[Fault(pointer, words)])


def _source(made_from: Use) -> dict[str, str]:
    return {"type": made_from.type, "id": made_from.id, "name": made_from.name}


def _make_over(
    below: Layer, origin: Volume, made_from: Snapshot | Volume, *, name: str, size_gib: int, actor: Actor, **facts: Any
) -> Volume:
    """A new volume over a layer of another one, on the host where that is."""
    _require_depth(below)
    require_beside(origin, facts["type"])
    source = _source(use("snapshot" if isinstance(made_from, Snapshot) else "volume", made_from))
    copied = {field: getattr(origin, field) for field in COPIED}
    layer = trees.over(below, size_gib=size_gib)
    made = Volume.objects.create(
        project=origin.project, name=name, size_gib=size_gib, active=layer, source=source, **copied, **facts
    )
    if layer.host is not None:
        hosting.place(made, layer.host)
    engine.start(CreateVolume, made, actor=actor)
    _record_create(made, actor)
    return made


def require_beside(volume: Volume, volume_type: VolumeType) -> None:
    """That one of this type can be where a volume is. Raises UnfitVolume."""
    if volume.type.pool != volume_type.pool:
        words = f"Volumes of the type {volume_type} are in another place, and the data is not copied there."
        raise unfit("/type", f"{words} Choose another type; a backup can be restored to any.")


def _record_create(made: Volume, actor: Actor) -> None:
    made_from = made.source and f"{made.source['type']} {made.source['name']}"
    after = {"name": made.name, "size_gib": made.size_gib, "type": made.type.name, "made_from": made_from}
    record("storage.volume.create", made, actor=actor, after=after)


def _require_depth(below: Layer) -> None:
    if trees.depth(below) >= trees.MAX_DEPTH:
        words = f"It stands on {trees.MAX_DEPTH} layers, one for each snapshot and clone before it, and takes no more."
        ways = (
            "Delete snapshots that nobody needs and stop what it is attached to, and layers are merged by themselves."
        )
        raise WrongState(f"{words} {ways} Or back it up, and restore the backup to it: that is one layer.")


def update(*, volume: Volume, actor: Actor, changes: Mapping[str, Any]) -> Volume:
    """Change what no host needs to hear of: name, labels, protection."""
    volume, before = change(volume, changes)
    record("storage.volume.update", volume, actor=actor, before=before, after=changes)
    return volume


def resize(*, volume: Volume, actor: Actor, size_gib: int) -> Operation:
    """Grow it, also while a guest uses it. Raises UnfitVolume for what is no growth, OverQuota, NoRoom, Busy."""
    if size_gib <= volume.size_gib:
        raise unfit("/size_gib", f"{volume} has {volume.size_gib} GiB and can only grow.")
    if size_gib > MAX_SIZE_GIB:
        raise unfit("/size_gib", f"A volume has at most {MAX_SIZE_GIB} GiB.")
    quota.require(volume.project_id, volume_gib=size_gib - volume.size_gib)
    operation = engine.start(ResizeVolume, volume, actor=actor)
    volume = for_work(volume)
    pools.require_room(volume.type, size_gib - volume.size_gib)
    operation.before = {"size_gib": volume.size_gib}
    operation.save(update_fields=["before"])
    prices.settle(volume)
    volume.size_gib = volume.active.size_gib = size_gib
    volume.save(update_fields=["size_gib"])
    volume.active.save(update_fields=["size_gib"])
    Allocation.of(hosting.VOLUME, volume.pk).update(disk_gib=volume.disk_gib)
    _raise(volume)
    record("storage.volume.resize", volume, actor=actor, before=operation.before, after={"size_gib": size_gib})
    return operation


def snapshot(
    *, volume: Volume, actor: Actor, name: str, labels: dict[str, str] | None = None, protected: bool = False
) -> Snapshot:
    """Keep what is on it now, also while a guest uses it. Raises OverQuota, WrongState, Busy."""
    quota.require(volume.project_id, snapshots=1)
    operation = engine.start(SnapshotVolume, volume, actor=actor)
    volume = for_work(volume)
    made = keep(volume, operation, actor=actor, name=name, labels=labels or {}, protected=protected)
    begin_layer(volume, over=volume.active)
    record("storage.volume.snapshot", volume, actor=actor, after={"snapshot": name})
    return made


def keep(volume: Volume, operation: Operation, *, actor: Actor, name: str, **facts: Any) -> Snapshot:
    """A snapshot that is taken in the course of an operation on the volume, which is locked."""
    made = Snapshot.objects.create(
        project_id=volume.project_id, volume=volume, name=name, layer=volume.active, size_gib=volume.size_gib,
        created_by=actor.name, **facts,
    )  # fmt: skip
    operation.parameters = {**operation.parameters, "snapshot": str(made.pk)}
    operation.save(update_fields=["parameters"])
    record("storage.snapshot.create", made, actor=actor, after={"name": name, "volume": volume.name})
    return made


def clone(
    *,
    volume: Volume,
    actor: Actor,
    name: str,
    size_gib: int | None = None,
    type: VolumeType | None = None,  # noqa: A002
    labels: dict[str, str] | None = None,
    protected: bool = False,
) -> Volume:
    """Another volume that begins with what is on this one now; both share that, so it takes no time and no room.

    Raises UnfitVolume, OverQuota, NoRoom, WrongState, Busy.
    """
    size = size_gib or volume.size_gib
    if size < volume.size_gib:
        raise unfit("/size_gib", f"{volume} has {volume.size_gib} GiB; a clone has at least as many.")
    if size > MAX_SIZE_GIB:
        raise unfit("/size_gib", f"A volume has at most {MAX_SIZE_GIB} GiB.")
    quota.require(volume.project_id, volumes=1, volume_gib=size)
    pools.require_room(volume.type, size)
    engine.start(CloneVolume, volume, actor=actor)
    volume = for_work(volume)
    below = volume.active
    begin_layer(volume, over=below)
    record("storage.volume.clone", volume, actor=actor, after={"name": name})
    return _make_over(
        below, volume, volume, name=name, size_gib=size, actor=actor, labels=labels or {}, protected=protected,
        created_by=actor.name, **volume_types.facts(volume.project, type, like=volume),
    )  # fmt: skip


def revert(*, volume: Volume, actor: Actor, snapshot: Snapshot) -> Operation:
    """Back to what was on it when the snapshot was taken; what was written since is lost.

    Raises InUse while it is attached to what is not stopped, WrongState, Busy, and UnfitVolume for a snapshot of
    another volume.
    """
    if snapshot.volume_id != volume.pk:
        raise unfit("/snapshot", f"{snapshot} is a snapshot of another volume. Make a new volume from it.")
    operation = engine.start(RevertVolume, volume, actor=actor)
    volume = at_rest(volume)
    if not snapshot.consistency:
        raise WrongState(f"{snapshot} is not taken yet. Wait for it.")
    begin_layer(volume, over=snapshot.layer)
    record("storage.volume.revert", volume, actor=actor, after={"snapshot": snapshot.name})
    return operation


def delete(*, volume: Volume, actor: Actor, cascade: bool = False) -> Operation:
    """Remove it, whatever is under way; with `cascade` its snapshots, too. Deleting twice is no error.

    Raises InUse while it is attached or, without `cascade`, has snapshots; Protected.
    """
    live = engine.lock("volume", volume.pk)
    if live and live.kind == DeleteVolume.kind:
        return live
    prices.settle(volume)  # from the moment of its deletion on it costs nothing
    operation = engine.start(DeleteVolume, volume, actor=actor)
    volume = locked(volume, failed=True)
    require_deletable(volume, actor=actor, cascade=cascade)
    _raise(volume)
    record("storage.volume.delete", volume, actor=actor, before={"name": volume.name, "size_gib": volume.size_gib})
    return operation


def require_deletable(volume: Volume, *, actor: Actor, cascade: bool) -> None:
    """Raises InUse or Protected. Notes that its snapshots go with it."""
    require_unprotected(volume)
    refuse_if_used(volume, holders_of(volume), hint="Detach it first.")
    snapshots = list(volume.snapshots.order_by("name"))
    if not cascade:
        hint = "Delete these first, or use cascade."
        refuse_if_used(volume, [use("snapshot", one) for one in snapshots], hint=hint)
    for one in snapshots:
        require_unprotected(one)
        record("storage.snapshot.delete", one, actor=actor, before={"name": one.name, "volume": volume.name})


def require_unprotected(row: Volume | Snapshot) -> None:
    if row.protected:
        raise Protected(f"{row} is protected from being deleted. Switch its protection off first.")


def require_no_image_in_work(made_of: Volume | Snapshot) -> None:
    """Raises Busy while an image is being made of it."""
    if image := Image.objects.filter(status=Image.Status.IMPORTING, source__id=str(made_of.pk)).first():
        raise engine.Busy(f"The image {image} is being made of {made_of}. Wait for it, or delete it.")


def holders_of(volume: Volume) -> list[Use]:
    """What it is attached to."""
    held = volume.attachments.order_by("created_at")
    return [Use(one.holder_type, str(one.holder_id), one.holder_name) for one in held]


def at_rest(volume: Volume) -> Volume:
    """The volume under its lock, with nothing that has it open. Raises InUse, WrongState, Busy.

    What it is attached to is locked first; whether it still rests when the volume is switched the workflow sees.
    """
    held = volume.attachments.first()
    if held and not kind_of(held.holder_type).rests(held.holder_id):
        refuse_if_used(volume, holders_of(volume), hint="Stop that first, or detach the volume from it.")
    volume = for_work(volume)
    require_no_image_in_work(volume)
    if volume.active.rbd and (backup := volume.backups.filter(status=Backup.Status.MAKING).first()):
        raise engine.Busy(f"The backup {backup} is being made of {volume}. Wait for it, or delete it.")
    return volume


def locked(volume: Volume, *, failed: bool = False) -> Volume:
    """The volume as it is now, under its lock. Raises WrongState for one that has no data, unless `failed`."""
    volumes = Volume.objects.select_for_update(of=("self",)).select_related("active__host", "project")
    volume = volumes.get(pk=volume.pk)
    if volume.failed_reason and not failed:
        raise WrongState(f"{volume} has no data: {volume.failed_reason} Delete it.")
    return volume


def for_work(volume: Volume) -> Volume:
    """The volume under its lock, for work on its layers. An emulator that only reads takes no part in that, and goes on
    with what it has open. What the volume is attached to is locked first. Raises WrongState.
    """
    for held in volume.attachments.filter(read_only=True):
        if not kind_of(held.holder_type).rests(held.holder_id):
            words = f"{volume} is attached read-only to {held.holder_name}, which is not stopped."
            raise WrongState(f"{words} Stop that, or detach the volume from it first.")
    return with_one_holder(volume)


def with_one_holder(volume: Volume) -> Volume:
    """The volume under its lock, when at most one thing has it. Raises WrongState."""
    volume = locked(volume)
    readers = sorted(volume.attachments.values_list("holder_name", flat=True))
    if len(readers) > 1:
        words = f"{volume} is attached to {', '.join(readers[:-1])} and {readers[-1]}, which only read it."
        raise WrongState(f"{words} Detach it from all but one first.")
    return volume


def begin_layer(volume: Volume, *, over: Layer) -> None:
    """Wish a new layer that is to take over. Its host makes the file; the operation goes on from there.

    The volume is locked. Raises WrongState.
    """
    trees.shorten(volume.active.tree)
    _require_depth(over)
    begin_with(volume, trees.over(over, size_gib=volume.size_gib, goes_on=over == volume.active))


def begin_with(volume: Volume, layer: Layer) -> None:
    """The same with a layer that is there in the rows. Raises WrongState."""
    if layer.host is not None and not hosting.keeps_layers(layer.host, in_ceph=bool(layer.rbd)):
        words = "is too old" if layer.rbd else "has no qemu-img"
        raise WrongState(f"The host of {volume} {words}: there it can have no snapshots and no clones.")
    volume.next = layer
    volume.save(update_fields=["next"])
    _raise(volume)


def _raise(volume: Volume) -> None:
    """What its host should make true has changed; the operation orders it."""
    if row := hosting.row_of(volume):
        raise_generation(row)
