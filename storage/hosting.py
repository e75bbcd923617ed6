"""Which volumes are on which hosts, and telling those hosts when something about them has changed.

A volume is on the host where its layers are. It gets one when it is first attached, or from what it is made of.
"""

from typing import Any, ClassVar
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from cloud.hosts import orders
from cloud.hosts.hosted import BROKEN, GONE, raise_generation, refusal
from cloud.hosts.models import Allocation, Host
from cloud.hosts.room import offer_room
from cloud.operations.models import FixBy, Operation
from cloud.operations.workflow import Refused, Topic, Wait
from cloud.problems import Problem, explain_constraint
from storage import trees
from storage.models import Layer, Volume, VolumeOnHost
from storage.models.hosted import PRESENT

VOLUME = "volume"  # as hosts call it
MOVING, ALONG = "storage.move_volume", "storage.move_along"  # they keep everything else from a volume that moves
LOOK_AGAIN_SECONDS = 20  # in case a wake-up is lost
MAKING = "waiting for the host to make its files"
FETCHING = "its host fetches what is in the backup"
TAKING = "its new host waits until the host before it can write nothing any more"
MERGING = "its host makes one layer of several"


class NoRoom(Problem):
    """The host where a volume is has no room for what is asked."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "no_capacity"
    title: ClassVar[str] = "The host of this volume has no room left"
    fix_by: ClassVar[Any] = "operator"


explain_constraint(
    "host_has_room",
    "The disk of its host has no room left for this. Delete what is no longer needed, or ask an admin of the cloud.",
    problem=NoRoom,
)


def carries(host: Host | None) -> bool:
    """Whether a host can have volumes, as it says itself."""
    return bool(host and host.capabilities.get("volumes"))


def keeps_layers(host: Host, *, in_ceph: bool = False) -> bool:
    """Whether a host can put layers over each other: without that there are no snapshots and no clones."""
    return bool(host.capabilities.get("volumes", {}).get("layers_in_ceph" if in_ceph else "layers"))


def merges_layers(host: Host) -> bool:
    """Whether a host can make one layer of several."""
    return bool(host.capabilities.get("volumes", {}).get("merge"))


def fault_there(volume: Volume, host: Host) -> str:
    """Why a volume cannot be on a host, in words; "" when it can."""
    if not carries(host):
        return "The host of the instance cannot have volumes."
    if not reaches(volume, host):
        return f"The host of the instance does not {reaching(volume)}."
    if (volume.active.base or volume.active.parent_id) and not is_there(volume, host) and not keeps_layers(host):
        return "The host of the instance has no qemu-img, so it can only have volumes that begin empty."
    return ""


def reaches(volume: Volume, host: Host) -> bool:
    """Whether a host reaches the pool where a volume is, if it is in one, or the storage host that serves it."""
    if volume.type.is_served:
        return bool(host.capabilities.get("volumes", {}).get("nbd"))
    return not volume.active.pool or str(volume.active.pool) in host.capabilities.get("pools", {})


def reaching(volume: Volume) -> str:
    """What a host that is no use for a volume does not do, in words."""
    if volume.type.is_served:
        return f"have qemu-nbd (qemu-utils), by which it would reach {volume} on its storage host"
    return f"reach the Ceph pool of {volume}" if volume.type.in_ceph else f"have the shared folder of {volume} mounted"


def is_there(volume: Volume, host: Host) -> bool:
    """Whether machines of a host have it there: its files, or what its storage host serves."""
    return volume.type.is_served or volume.active.host_id == host.pk


def place(volume: Volume, host: Host) -> VolumeOnHost:
    """Put a volume on a host, with room for all of it. The volume is locked."""
    Layer.objects.filter(tree=volume.active.tree, host=None).update(host=host)
    Allocation.objects.create(resource_type=VOLUME, resource_id=volume.pk, host=host, disk_gib=volume.disk_gib)
    generation = orders.first_generation(host.pk, VOLUME, volume.pk)
    return VolumeOnHost.objects.create(volume=volume, host=host, generation=generation)


def row_of(volume: Volume) -> VolumeOnHost | None:
    """The volume where its data is, locked; None while it is nowhere."""
    rows = VolumeOnHost.objects.select_for_update(of=("self",)).select_related("host")
    return rows.filter(volume=volume, host=F("volume__active__host")).first()


def order(row: VolumeOnHost, verb: str = "") -> None:
    """As it is wanted there, unless a verb is said."""
    assert row.host is not None
    verb = verb or ("ensure_present" if row.wanted else "ensure_gone")
    orders.post(row.host, VOLUME, row.volume_id, verb, row.generation)


def changed(volume: Volume) -> None:
    """What its host should make true of a volume has changed: order it, if it is on one. The volume is locked."""
    trees.shorten(volume.active.tree)
    row = row_of(volume)
    if row is None:
        trees.tree_of(volume).sweep()
    else:
        raise_generation(row)
        order(row)


def until_true(volume: Volume) -> Wait | None:
    """What to wait for until its host has made true what is wanted of a volume; None when it has, or none has it.

    Raises Refused when the host says that it cannot.
    """
    row = row_of(volume)
    if row is None or row.is_true:
        return None
    if row.has_been_seen(BROKEN):
        raise refusal(row)
    order(row)
    return Wait(LOOK_AGAIN_SECONDS, because=_work_on(volume))


def _work_on(volume: Volume) -> str:
    if volume.active.taken_from:
        return TAKING
    missing = Layer.objects.filter(tree=volume.active.tree, made=False)
    if missing.filter(backup__isnull=False).exists():
        return FETCHING
    return MERGING if missing.exclude(merges=[]).exists() else MAKING


def take_room(volume: Volume, *, more_gib: int) -> None:
    """Have this much beside its size on its host for a while. Raises NoRoom."""
    if volume.active.pool:
        return  # a shared folder says itself when it is full
    try:
        with transaction.atomic():
            Allocation.of(VOLUME, volume.pk).update(disk_gib=volume.size_gib + more_gib)
    except IntegrityError as full:
        raise NoRoom(f"The host of {volume} has no room for a second copy of it ({more_gib} GiB).") from full


def fit_room(volume: Volume) -> None:
    """Give back what it has beside its size."""
    if Allocation.of(VOLUME, volume.pk).exclude(disk_gib=volume.disk_gib).update(disk_gib=volume.disk_gib):
        offer_room()


def give_back(volume_id: UUID, *hosts: Host) -> None:
    """It is gone from these hosts: what it occupied there is free."""
    Allocation.of(VOLUME, volume_id).filter(host__in=hosts).delete()
    offer_room()


def forget(row: VolumeOnHost) -> None:
    """Its host has removed it."""
    assert row.host is not None
    give_back(row.volume_id, row.host)
    row.delete()


def leave(row: VolumeOnHost) -> None:
    """Its host is to remove all of it, as it is on another one, or does not come here after all. Locked."""
    row.wanted = False
    row.save(update_fields=["wanted"])
    raise_generation(row)
    order(row)


def connect(volume: Volume, host: Host) -> Wait | None:
    """Have a volume on the host of what it is attached to. What to wait for until it is there; None when it is.

    Raises Refused when it is on another host and does not come here, when this one has no room or cannot make it.
    """
    rows = Volume.objects.select_for_update(of=("self",)).select_related("active__host", "type")
    volume = rows.get(pk=volume.pk)
    if volume.active.host_id and not is_there(volume, host):
        if live_kind_of(volume) not in (MOVING, ALONG):
            raise Refused(f"{volume} is on another host than what it is attached to.", fix_by=FixBy.NOBODY)
        because = f"{volume} is being copied to the host of what it is attached to"
        return Wait(LOOK_AGAIN_SECONDS, because=because, on=(Topic(VOLUME, volume.pk),))
    if fault := fault_there(volume, host):
        raise Refused(fault, fix_by=FixBy.YOU)
    if row_of(volume) is None:
        try:
            with transaction.atomic():
                place(volume, host)
        except IntegrityError as full:
            raise Refused(f"The disk of its host has no room for {volume} ({volume.size_gib} GiB).") from full
    return until_true(volume)


def live_kind_of(volume: Volume) -> str:
    """The kind of the operation that is under way with a volume; "" when none is."""
    live = Operation.objects.filter(subject_type=VOLUME, subject_id=volume.pk, finished_at=None)
    return live.values_list("kind", flat=True).first() or ""


def host_of(volume: Volume) -> Host | None:
    """Where its layers are; None while they are nowhere."""
    return volume.active.host


def noticed(row: VolumeOnHost, before: str) -> None:
    """A report has been written: what is there, and which layers have been removed."""
    if not row.wanted:
        if row.has_been_seen(GONE):
            forget(row)
    elif row.has_been_seen(PRESENT):
        trees.noted(row.volume.active.tree, row.seen_facts.get("layers", ()))
        if row.volume.active.taken_from and row.host_id == row.volume.active.host_id:
            Layer.objects.filter(tree=row.volume.active.tree).update(taken_from=[])
