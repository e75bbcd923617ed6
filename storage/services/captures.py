"""Images of disks that are on hosts: of instances, and of snapshots. The host that has the disk makes the image."""

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
from storage.models import Image, ImageImport, Snapshot
from storage.services.images import HYPERVISORS, WrongState
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
    host, volume = snapshot.layer.host, snapshot.volume
    assert host is not None
    properties: dict[str, Any] = {"architecture": Image.Architecture.X86_64, "hypervisors": HYPERVISORS}
    if image := volume.image:
        copied = ("os", "architecture", "hypervisors", "min_memory_mib", "default_user")
        properties = {field: getattr(image, field) for field in copied} | image.hardware
    return begin(
        project=snapshot.project,
        actor=actor,
        name=name,
        source={"kind": "snapshot", "id": str(snapshot.pk), "name": snapshot.name},
        host=host,
        gib=snapshot.size_gib,
        boot_files=volume.boot_files,
        kernel_command_line=volume.kernel_command_line,
        **properties,
        **said,
    )


def why_not(snapshot: Snapshot) -> str:
    """Why no image can be made of a snapshot, in words; "" when it can."""
    host = snapshot.layer.host
    if not snapshot.consistency:
        return f"{snapshot} is still being taken."
    if host is None:
        return f"Nothing has been written to {snapshot.volume}: it was never attached."
    return "" if able(host) else "Its host makes no images: qemu-img is not installed there, or its agent is too old."


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
    """An image of what is on a host. `source`: {"kind": "instance" or "snapshot", "id", "name"}; `gib`: its size;
    `boot_files`: the kernel that it is started with, if it is. Raises OverQuota, NoRoom.
    """
    quota.require(project, images=1, image_gib=FIRST_GIB)
    kept = [dict(file) for file in boot_files if file["role"] != "disk"]
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
