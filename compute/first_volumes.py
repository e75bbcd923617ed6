"""The volumes that an instance has from its beginning: those asked for, and the further disks of its image.

What was asked for is kept with the instance, for a launch that is tried again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from cloud.events.services import Actor
from cloud.hosts.models import Host
from cloud.problems import Fault
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from compute.models import Instance
from compute.volumes import HOLDER, UnfitVolumes
from storage import hardware
from storage.models import Image, Volume, VolumeType
from storage.services import attaching, volume_types, volumes
from storage.services.attaching import Holder

MAX_NAME = 63  # characters
BOOT_SLOT = 0
FROM_IMAGE = "from the image"  # where a fault of its further disks is


@dataclass(frozen=True)
class Disk:
    """A volume that a new instance should have: `volume`, which is there, or else a new one of `size_gib`.

    `disk`: which of the image's disks the new one begins with; None: it is empty. Without a name it is named after the
    instance. `slot`: as `plan` says.
    """

    volume: Volume | None = None
    size_gib: int | None = None
    type: VolumeType | None = None
    name: str = ""
    disk: int | None = None
    read_only: bool = False
    delete_with_instance: bool = True
    slot: int = BOOT_SLOT
    pointer: str = FROM_IMAGE

    @property
    def is_new(self) -> bool:
        return self.volume is None


def plan(image: Image, boot_from: Disk | None, asked: Sequence[Disk]) -> list[Disk]:
    """All volumes of a launch with their slots: what it boots from, the image's further disks, those asked for.

    The further disks of an image belong to its first one, so they do not come with a volume that is there already.
    """
    planned = []
    if boot_from is not None:
        disk = 0 if boot_from.is_new else None
        size = (boot_from.size_gib or volumes.min_size_of(image)) if boot_from.is_new else None
        planned.append(replace(boot_from, disk=disk, size_gib=size, pointer="/boot_from"))
    if boot_from is None or boot_from.is_new:
        further = range(1, len(image.disks))
        planned += [Disk(size_gib=volumes.min_size_of(image, disk), disk=disk) for disk in further]
    planned += [replace(disk, pointer=f"/volumes/{index}") for index, disk in enumerate(asked)]
    first = BOOT_SLOT + (boot_from is None)
    return [replace(disk, slot=slot) for slot, disk in enumerate(planned, start=first)]


def needed(disks: Sequence[Disk], count: int) -> dict[str, int]:
    """What so many instances with these disks need of the quota."""
    sizes = [disk.size_gib or 0 for disk in disks if disk.is_new]
    return {"volumes": count * len(sizes), "volume_gib": count * sum(sizes)} if sizes else {}


def faults(
    disks: Sequence[Disk], *, image: Image, project: Project, names: Sequence[str], host: Host | None
) -> Iterator[Fault]:
    """What keeps instances with these names from having these disks."""
    there = [disk for disk in disks if disk.volume]
    bus = hardware.disk_bus(image.hardware)
    most = hardware.MAX_DISKS[bus] - 1
    if len(disks) - (disks[0].slot == BOOT_SLOT if disks else 0) > most:
        of_image = sum(disk.pointer == FROM_IMAGE for disk in disks)
        words = f"An instance has at most {most} volumes beside the one that it boots from"
        words += "" if bus == "virtio" else f" where its disks are on {hardware.name(bus)}"
        yield Fault("/volumes", f"{words}; {of_image} come from the image." if of_image else f"{words}.")
    if bus not in hardware.READ_ONLY_BUSES:
        words = f"A disk on {hardware.name(bus)} cannot be read-only."
        yield from (Fault(f"{disk.pointer}/read_only", words) for disk in disks if disk.read_only)
    twice = Counter(disk.volume.pk for disk in there if disk.volume)
    for disk in there:
        assert disk.volume is not None
        if len(names) > 1:
            words = "Several instances cannot have the same volume. Leave it out, or launch one."
            yield Fault(f"{disk.pointer}/volume", words)
        if twice[disk.volume.pk] > 1:
            yield Fault(f"{disk.pointer}/volume", f"{disk.volume} is asked for more than once.")
    yield from _faults_of_root(disks, image)
    yield from _faults_of_hosts(there, host)
    yield from _faults_of_names(disks, project, names)


def _faults_of_root(disks: Sequence[Disk], image: Image) -> Iterator[Fault]:
    root = next((disk for disk in disks if disk.slot == BOOT_SLOT), None)
    if root is None:
        return
    if root.volume and not root.volume.bootable:
        yield Fault("/boot_from/volume", f"{root.volume} was not made from an image, so nothing starts from it.")
    if root.is_new and volumes.disk_of(image) is None:
        yield Fault("/boot_from", f"{image} has no disk that a volume could begin with.")
    elif root.is_new and (root.size_gib or 0) < image.min_disk_gib:
        yield Fault("/boot_from/size_gib", f"{image} needs {image.min_disk_gib} GiB.")


def _faults_of_hosts(there: Sequence[Disk], wished: Host | None) -> Iterator[Fault]:
    """A volume is used where it is, so all must be on one host. Which that is only admins are told, who may wish it."""
    placed = [
        volume for disk in there if (volume := disk.volume) and volume.active.host_id and not volume.type.is_served
    ]
    other = next((one for one in placed if one.active.host_id != placed[0].active.host_id), None)
    if other is not None:
        words = f"{placed[0]} and {other} are on different hosts: an instance can have one or the other."
        yield Fault("/volumes", words)
    elif wished and placed and placed[0].active.host_id != wished.pk:
        yield Fault("/host", f"{placed[0]} is on {placed[0].active.host}, and can be used there only.")


def _faults_of_names(disks: Sequence[Disk], project: Project, names: Sequence[str]) -> Iterator[Fault]:
    wanted = {name: disk for disk in disks if disk.is_new and disk.name for name in _names(disk, names)}
    if len(wanted) < sum(len(names) for disk in disks if disk.is_new and disk.name):
        yield Fault("/volumes", "Two of the new volumes have the same name.")
    taken = Volume.objects.filter(project=project, name__in=wanted, trashed_at=None) if wanted else ()
    for volume in taken:
        yield Fault(f"{wanted[volume.name].pointer}/name", f"There is a volume {volume} already.", "conflict")


def _names(disk: Disk, instances: Sequence[str]) -> list[str]:
    """What a named disk is called for each of several instances: data-1, data-2 …"""
    if len(instances) == 1:
        return [disk.name]
    return [f"{disk.name}-{number}"[-MAX_NAME:] for number in range(1, len(instances) + 1)]


def named(disks: Sequence[Disk], index: int, instances: Sequence[str]) -> list[Disk]:
    """The disks of one of several instances, by its place among them."""
    return [replace(disk, name=_names(disk, instances)[index]) if disk.name else disk for disk in disks]


def attach(instance: Instance, actor: Actor, disks: Sequence[Disk]) -> None:
    """Make and take the volumes of a new instance. Raises what `storage.services.attaching` raises."""
    for disk in disks:
        holder = Holder(HOLDER, instance.pk, instance.name, disk.slot)
        volume = disk.volume or _make(instance, actor, disk)
        attaching.attach(
            volume=volume, holder=holder, actor=actor, read_only=disk.read_only,
            delete_with_holder=disk.delete_with_instance,
        )  # fmt: skip


def _make(instance: Instance, actor: Actor, disk: Disk) -> Volume:
    name = disk.name or _free_name(instance, "root" if disk.slot == BOOT_SLOT else f"volume-{disk.slot}")
    return volumes.create(
        project=instance.project,
        actor=actor,
        name=name,
        size_gib=disk.size_gib,
        type=disk.type,
        image=None if disk.disk is None else instance.image,
        disk=disk.disk or 0,
    )


def _free_name(instance: Instance, what: str) -> str:
    """web-volume-1; where that is taken, as by one of an earlier instance: web-volume-1-2."""
    return _free(instance, f"{instance.name[: MAX_NAME - len(what) - 5]}-{what}")


def _free(instance: Instance, stem: str) -> str:
    used = Volume.objects.filter(project=instance.project, name__startswith=stem, trashed_at=None)
    taken = set(used.values_list("name", flat=True))
    return next(name for number in range(1, len(taken) + 2) if (name := _numbered(stem, number)) not in taken)


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"


def kept(disks: Sequence[Disk]) -> list[dict[str, Any]]:
    """What was asked for, as it is kept with the instance."""
    return [
        {
            **{
                name: value
                for name, value in asdict(replace(disk, volume=None, type=None)).items()
                if name != "pointer"
            },
            "volume": str(disk.volume.pk) if disk.volume else None,
            "type": str(disk.type.pk) if disk.type else None,
        }
        for disk in disks
    ]


def attach_again(instance: Instance, actor: Actor) -> None:
    """A launch that failed is tried again: with new volumes, and with those that it was given.

    Raises UnfitVolumes when one of them is not there any more, OverQuota, and what `attach` raises.
    """
    asked = instance.volume_wish or []
    if not instance.failed_at or not asked:
        return
    rows = Volume.objects.filter(project=instance.project_id, trashed_at=None).select_related("active__host")
    there = rows.in_bulk([UUID(one["volume"]) for one in asked if one["volume"]])
    offered = {str(one.pk): one for one in volume_types.offered_to(instance.project)}  # of others it is the default
    disks = [
        Disk(
            **{
                **one,
                "volume": there.get(UUID(one["volume"])) if one["volume"] else None,
                "type": offered.get(one.get("type") or ""),
            }
        )
        for one in asked
    ]
    if any(one["volume"] and disk.is_new for one, disk in zip(asked, disks, strict=True)):
        raise UnfitVolumes("A volume that it was launched with is not there any more. Launch a new one.")
    if apart := [fault for fault in _faults_of_hosts([disk for disk in disks if disk.volume], None)]:
        raise UnfitVolumes(apart[0].message)
    quota.require(instance.project_id, **needed(disks, 1))
    # What was to be kept may be there still, without data, or somebody has taken its name.
    free = [
        replace(one, name=_free(instance, one.name[: MAX_NAME - 4])) if one.is_new and one.name else one
        for one in disks
    ]
    attach(instance, actor, free)
