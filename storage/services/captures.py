"""Images of disks on hosts: of instances, volumes and snapshots. The host that has the disk makes the image."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction

from cloud.events.services import Actor, record
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from storage import importing
from storage.hosting import NoRoom
from storage.models import Image, ImageImport, Layer, Snapshot, Volume
from storage.services import volumes
from storage.services.images import HYPERVISORS, WrongState
from storage.workflows import CaptureVolume
from storage.workflows.images import ImportImage

FIRST_GIB = 1  # that it counts until it is known


def able(host: Host) -> bool:
    """Whether a host can make images of its disks, as it says itself."""
    return bool(host.capabilities.get("images", {}).get("capture"))


def of_snapshot(*, snapshot: Snapshot, actor: Actor, name: str, **said: Any) -> Image:
    """An image of what a snapshot has kept. `said`: version, description, labels.

    Raises WrongState, OverQuota, NoRoom.
    """
    if why := why_not(snapshot):
        raise WrongState(why)
    source = {"kind": "snapshot", "id": str(snapshot.pk), "name": snapshot.name}
    return _of_layer(
        snapshot.layer, snapshot.volume, actor=actor, name=name, source=source, gib=snapshot.size_gib, **said
    )


def of_volume(*, volume: Volume, actor: Actor, name: str, **said: Any) -> Image:
    """An image of what is on a volume now, also while a guest uses it: what comes goes to a new layer, as with a
    snapshot. `said`: version, description, labels.

    Raises WrongState, OverQuota, NoRoom, Busy.
    """
    quota.require(volume.project_id, images=1, image_gib=FIRST_GIB)
    engine.start(CaptureVolume, volume, actor=actor)
    volume = volumes.for_work(volume)
    if why := why_not_volume(volume):
        raise WrongState(why)
    layer = volume.active
    volumes.begin_layer(volume, over=layer)
    source = {"kind": "volume", "id": str(volume.pk), "name": volume.name, "layer": str(layer.pk)}
    return _of_layer(layer, volume, actor=actor, name=name, source=source, gib=volume.size_gib, **said)


def _of_layer(layer: Layer, volume: Volume, **said: Any) -> Image:
    """An image of a layer of a volume, and of what that lies on. Its host makes images."""
    assert layer.host is not None
    Layer.objects.select_for_update(of=("self",), no_key=True).get(pk=layer.pk)  # no merge overlooks that it is read
    properties: dict[str, Any] = {"architecture": Image.Architecture.X86_64, "hypervisors": HYPERVISORS}
    if image := volume.image:
        copied = ("os", "architecture", "hypervisors", "min_memory_mib", "default_user", "cloud_init")
        properties = {field: getattr(image, field) for field in copied} | image.hardware
    booted = volume.attachments.filter(slot=0).first()
    if booted:  # what UEFI has kept for it is of this disk
        said["source"] |= {"booted": {"type": booted.holder_type, "machine": str(booted.holder_id)}}
    return begin(
        project=volume.project,
        host=layer.host,
        boot_files=volume.boot_files,
        kernel_command_line=volume.kernel_command_line,
        **properties,
        **said,
    )


def why_not(snapshot: Snapshot) -> str:
    """Why no image can be made of a snapshot, in words; "" when it can."""
    if not snapshot.consistency:
        return f"{snapshot} is still being taken."
    return _why_not_of(snapshot.layer, snapshot.volume)


def why_not_volume(volume: Volume) -> str:
    """Why no image can be made of a volume, in words; "" when it can."""
    return _why_not_of(volume.active, volume)


def _why_not_of(layer: Layer, volume: Volume) -> str:
    if layer.host is None:
        return f"Nothing has been written to {volume}: it was never attached."
    if not able(layer.host):
        return "Its host makes no images: qemu-img is not installed there, or its agent is too old."
    return ""


def begin(
    *,
    project: Project,
    actor: Actor,
    name: str,
    source: Mapping[str, Any],
    host: Host,
    gib: int,
    boot_files: Iterable[Mapping[str, Any]] = (),
    **properties: Any,
) -> Image:
    """An image of what is on a host. `source`: {"kind": "instance", "snapshot" or "volume", "id", "name"}, of a volume
    also the "layer" that is to be left alone, and of both what has "booted" from it; `gib`: its size;
    `boot_files`: the kernel that it is started with, if it is. Raises OverQuota, NoRoom.
    """
    quota.require(project, images=1, image_gib=FIRST_GIB)
    kept = [dict(file) for file in boot_files if file["role"] not in ("disk", "cdrom")]
    image = Image.objects.create(
        project=project,
        name=name,
        status=Image.Status.IMPORTING,
        source={**source, "boot_files": kept},
        size_gib=FIRST_GIB,
        **properties,
    )
    try:
        with transaction.atomic():
            row = ImageImport.objects.create(image=image, host=host)
            Allocation.objects.create(resource_type=importing.IMAGE, resource_id=row.pk, host=host, disk_gib=gib)
    except IntegrityError as full:
        raise NoRoom(f"The host has no room for a copy of the disk ({gib} GiB). Try again later.") from full
    after = {"name": name, "version": image.version, "source": dict(source)}
    record("storage.image.create", image, actor=actor, after=after)
    engine.start(ImportImage, image, actor=actor)
    return image
