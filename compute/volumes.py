"""Volumes of instances: attached and detached, and what storage asks of an instance that has one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db import transaction
from django.db.models import OuterRef, QuerySet
from django.db.models.functions import JSONObject

from cloud.events.services import SYSTEM, Actor
from cloud.hosts import orders
from cloud.hosts.hosted import refusal
from cloud.operations.workflow import Topic, Wait
from cloud.problems import Fault, Problem
from cloud.queries import Prepared
from compute.hypervisors import KINDS
from compute.models import Instance, Power
from storage import hardware, hosting
from storage.models import Attachment, Snapshot, Volume
from storage.services import attaching, moving
from storage.services.attaching import Holder, NoSlot

HOLDER = "instance"  # how attachments call what they are of
MAX_VOLUMES = hardware.MAX_DISKS["virtio"] - 1  # beside the disk that it boots from; on other buses there are fewer


class UnfitVolumes(Problem):
    """An instance cannot have the volumes that are asked for; `errors` names every fault."""

    title = "The volume cannot be attached like this"


@dataclass(frozen=True)
class Needs:
    """What the volumes of an instance ask of its host: to be a certain one, where they are; room for those that are
    nowhere yet, so many GiB; and, if there are such, qemu-img for those that do not begin empty. `pools`: the shared
    folders where they are. `are_served`: to reach storage hosts, which have some of them.
    """

    host_id: UUID | None = None
    gib: int = 0
    are_new: bool = False
    have_base: bool = False
    pools: tuple[str, ...] = ()
    are_served: bool = False


def needs(instance: Instance) -> Needs:
    if not instance.machine_id and not instance.volume_wish:
        return Needs()  # one that is new, and has none: known without a look
    everything = [one.volume for one in _held.rows(instance.pk)]
    held = [volume for volume in everything if not volume.type.is_served]
    new = [volume for volume in held if not volume.active.host_id]
    return Needs(
        host_id=next((volume.active.host_id for volume in held if volume.active.host_id), None),
        gib=sum(volume.disk_gib for volume in new),
        are_new=bool(new),
        have_base=any(volume.active.base for volume in new),
        pools=pools_of(new),
        are_served=len(held) < len(everything),
    )


def pools_of(those: Iterable[Volume]) -> tuple[str, ...]:
    return tuple(sorted({str(volume.active.pool) for volume in those if volume.active.pool}))


def lock(instance: Instance) -> None:
    """Keep its volumes as they are: before a host is locked, as locks are taken in one order everywhere."""
    if instance.volume_wish:
        held = held_by(instance).values("volume_id")
        list(Volume.objects.filter(pk__in=held).order_by("pk").select_for_update(of=("self",)))


def place(instance: Instance) -> None:
    """Put those that are nowhere yet where the instance is, with their room. They are locked."""
    if not instance.volume_wish or instance.host is None:
        return
    for held in held_by(instance):
        if not held.volume.active.host_id:
            hosting.place(held.volume, instance.host)


def bring(instance: Instance) -> Wait | None:
    """Have the files of all of its volumes on its host. What to wait for until they are; None when they are.

    Raises Refused when its host cannot have one of them.
    """
    assert instance.host is not None
    waits = {held.volume_id: hosting.connect(held.volume, instance.host) for held in _held.rows(instance.pk)}
    topics = tuple(Topic(hosting.VOLUME, volume_id) for volume_id, wait in waits.items() if wait)
    first = next((wait for wait in waits.values() if wait), None)
    return replace(first, on=topics) if first else None


def with_slots(instances: "QuerySet[Any]") -> "QuerySet[Any]":
    """Annotate `volume_slots`, so that `slots` needs no query for each of many."""
    own = Attachment.objects.filter(holder_type=HOLDER, holder_id=OuterRef("pk"))
    annotated: QuerySet[Any] = instances.annotate(volume_slots=ArraySubquery(own.values("slot")))
    return annotated


def slots(instance: Instance) -> list[int]:
    """In which of its slots there are volumes."""
    known = getattr(instance, "volume_slots", None)
    return list(held_by(instance).values_list("slot", flat=True) if known is None else known)


def boots_from_volume(instance: Instance) -> bool:
    """Whether a volume is in the place of its own disk."""
    return 0 in slots(instance)


def attach(instance: Instance, actor: Actor, volume: Volume | None, *, read_only: bool, goes_with: bool) -> Attachment:
    """Make a volume a disk of an instance, in its first slot that is free; one on another host begins to move here.

    The instance is locked. Raises UnfitVolumes, and what `storage.services.attaching` and `moving` raise.
    """
    assert instance.host is not None
    if volume is None:
        raise _unfit("Give a volume.")
    if fault := hosting.fault_there(volume, instance.host):
        raise _unfit(fault)
    if volume.type.is_served and not KINDS[instance.hypervisor].takes_served:
        raise _unfit(f"{instance} runs in the embedded emulator, which reaches no volume on another host.")
    bus = hardware.disk_bus(instance.hardware)
    if read_only and bus not in hardware.READ_ONLY_BUSES:
        raise _unfit(f"{instance} has its disks on {hardware.name(bus)}, where none can be read-only.")
    taken = set(held_by(instance).values_list("slot", flat=True))
    free = next((slot for slot in range(1, hardware.MAX_DISKS[bus]) if slot not in taken), None)
    if free is None:
        raise NoSlot(f"{instance} has {len(taken - {0})} volumes, and can have no more.")
    holder = Holder(HOLDER, instance.pk, instance.name, free)
    held = attaching.attach(
        volume=volume, holder=holder, actor=actor, read_only=read_only, delete_with_holder=goes_with
    )
    if volume.active.host_id and not hosting.is_there(volume, instance.host):
        moving.move(volume=volume, actor=actor, host=instance.host, holder=instance.pk)
    return held


def attached(instance: Instance, volume: Volume | None) -> Attachment:
    """As what a volume is attached to an instance. Raises UnfitVolumes."""
    if volume is None:
        raise _unfit("Give a volume.")
    held = held_by(instance).filter(volume=volume).first()
    if held is None:
        raise _unfit(f"{volume} is not attached to {instance}.")
    if held.slot == 0:
        raise _unfit(f"{instance} boots from {volume}.")
    return held


def _unfit(words: str) -> UnfitVolumes:
    return UnfitVolumes(words, errors=[Fault("/volume", words)])


def held_by(instance: Instance) -> "QuerySet[Attachment]":
    return attaching.held_by(HOLDER, instance.pk)


@Prepared
def _held(instance_id: Any) -> "QuerySet[Attachment]":
    return attaching.held_by(HOLDER, instance_id)


@dataclass(frozen=True)
class Fate:
    """What becomes of a volume when its instance is deleted for good. `is_protected`: it stays for that alone."""

    volume: Volume
    slot: int
    goes: bool
    is_protected: bool
    snapshots: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        ident = {"type": "volume", "id": str(self.volume.pk), "name": self.volume.name}
        return {**ident, "fate": "deleted" if self.goes else "kept", "snapshots": list(self.snapshots)}


def fates(instance: Instance) -> list[Fate]:
    """Of all that is attached to it, by slots: as `attaching.release_all` does in the end."""
    found = []
    for held in held_by(instance).prefetch_related("volume__snapshots"):
        snapshots = sorted(held.volume.snapshots.all(), key=attrgetter("name"))
        is_protected = held.volume.protected or any(one.protected for one in snapshots)
        goes, would_stay = held.delete_with_holder and not is_protected, held.delete_with_holder and is_protected
        found.append(Fate(held.volume, held.slot, goes, would_stay, tuple(one.name for one in snapshots)))
    return found


def that_move(instance: Instance) -> list[Volume]:
    """Those that go with it to another host: all but what storage hosts serve."""
    return [one.volume for one in held_by(instance) if not one.volume.type.is_served]


def that_are_served(instance: Instance) -> list[Volume]:
    """Those that stay on their storage hosts, whatever host it is on."""
    return [one.volume for one in held_by(instance) if one.volume.type.is_served]


def with_volumes(instances: "QuerySet[Any]") -> "QuerySet[Any]":
    """Annotate `volumes`, by their slots."""
    own = Attachment.objects.filter(holder_type=HOLDER, holder_id=OuterRef("pk")).order_by("slot")
    shown = JSONObject(
        id="volume_id",
        name="volume__name",
        size_gib="volume__size_gib",
        slot="slot",
        read_only="read_only",
        delete_with_instance="delete_with_holder",
    )
    annotated: QuerySet[Any] = instances.annotate(volumes=ArraySubquery(own.values(json=shown)))
    return annotated


def rename(instance: Instance) -> None:
    attaching.rename_holder(holder_type=HOLDER, holder_id=instance.pk, name=instance.name)


def release(instance: Instance) -> None:
    """Its machine is gone: what was made for it goes with it."""
    attaching.release_all(holder_type=HOLDER, holder_id=instance.pk, actor=SYSTEM)


def release_unused(instance: Instance) -> None:
    """Its launch came to nothing: what was made for it goes, whether it was to be kept or not."""
    there_before = {one["volume"] for one in instance.volume_wish}
    attaching.release_all(
        holder_type=HOLDER,
        holder_id=instance.pk,
        actor=SYSTEM,
        goes_along=lambda held: str(held.volume_id) not in there_before,
    )


def let_go(instance: Instance, *, goes_along: Callable[[Attachment], bool]) -> None:
    """It is given up, and its volumes are free for another: all but those that go along."""
    attaching.release_all(holder_type=HOLDER, holder_id=instance.pk, actor=SYSTEM, goes_along=goes_along)


def release_kept(instance: Instance) -> None:
    """It goes into the trash, stopped: what it boots from and what was made for it stays with it."""
    for held in held_by(instance).filter(delete_with_holder=False).exclude(slot=0):
        attaching.release(held, actor=SYSTEM)


@transaction.atomic
def forget_holder(instance_id: UUID) -> None:
    """There is no such instance: its volumes are free."""
    for held in attaching.held_by(HOLDER, instance_id):
        attaching.release(held, actor=SYSTEM)


def tell(instance_id: UUID) -> None:
    """Its volumes have changed: order its host to see to that, at the power that it has."""
    instances = Instance.objects.select_for_update(of=("self",)).select_related("machine__host")
    instance = instances.filter(pk=instance_id).first()
    if instance and instance.machine and instance.host:
        instance.raise_generation()
        verb = f"ensure_{instance.wanted_power}"
        orders.post(instance.host, "instance", instance.pk, verb, instance.machine.generation)


def pending(instance_id: UUID) -> Topic | None:
    """What to wait for until its host has seen to its volumes. Raises Refused when that will not happen."""
    instance = Instance.objects.select_related("machine__host").filter(pk=instance_id).first()
    if instance is None or instance.machine is None or instance.host is None:
        return None
    if not instance.machine.is_up_to_date():
        return Topic("instance", instance_id)
    if instance.seen == Power.BROKEN:
        raise refusal(instance)
    if instance.seen_facts.get("devices_problem"):
        raise refusal(instance, of="devices_")
    return None


def consistency(instance_id: UUID, volume_id: UUID) -> str:
    """What its host says of the moment at which the volume's active layer took over."""
    instance = Instance.objects.select_related("machine").filter(pk=instance_id).first()
    active = Volume.objects.filter(pk=volume_id).values_list("active_id", flat=True).first()
    told = instance.seen_facts.get("volumes", {}).get(str(volume_id), {}) if instance else {}
    was_still = bool(told.get("held_still")) and told.get("active") == str(active)
    return Snapshot.Consistency.FILESYSTEM if was_still else Snapshot.Consistency.CRASH


def rests(instance_id: UUID) -> bool:
    """Whether it is stopped, as its host knows. It is locked, so it does not start meanwhile."""
    instances = Instance.objects.select_for_update(of=("self",)).select_related("machine__host")
    instance = instances.filter(pk=instance_id).first()
    if instance is None or instance.machine is None or instance.host is None:
        return True
    return instance.wanted_power == Power.STOPPED and instance.has_been_seen(Power.STOPPED)


def replaces_layers(instance_id: UUID) -> bool:
    """Whether its hypervisor has the verb."""
    instance = Instance.objects.select_related("machine__host").filter(pk=instance_id).first()
    return instance is not None and "layers" in instance.hypervisor_facts.get("verbs", [])
