"""Sizes of instances: which flavors one may get, and what follows when it has another one."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction

from cloud.costs import kinds
from cloud.hosts.models import Allocation, Host
from cloud.hosts.room import offer_room
from compute import networking
from compute.hypervisors import KINDS
from compute.models import Flavor, Instance

INSTANCE = "instance"  # as hosts call it
ROOM = ("vcpus", "memory_mib", "disk_gib")  # what it has of its host
MAX_OFFERED = 100
MAX_NAMED = 5


@dataclass(frozen=True)
class Size:
    """What an instance gets by its flavor. Where it boots from a volume, `disk_gib` is 0."""

    flavor: Flavor
    vcpus: int
    memory_mib: int
    disk_gib: int
    price_per_hour: Decimal

    @classmethod
    def of(cls, instance: Instance) -> "Size":
        return cls(instance.flavor, **{name: getattr(instance, name) for name in (*ROOM, "price_per_hour")})

    @classmethod
    def by(cls, flavor: Flavor, instance: Instance) -> "Size":
        """What this flavor would make of the instance."""
        disk_gib = flavor.disk_gib if instance.disk_gib else 0
        return cls(flavor, flavor.vcpus, flavor.memory_mib, disk_gib, flavor.price_per_hour)

    @classmethod
    def kept(cls, size: dict[str, Any]) -> "Size | None":
        """As `as_json` has kept it; None when its flavor has been deleted since."""
        flavor = Flavor.objects.filter(pk=size["flavor"]).first()
        room = {name: size[name] for name in ROOM}
        return cls(flavor, **room, price_per_hour=Decimal(size["price_per_hour"])) if flavor else None

    def as_json(self) -> dict[str, Any]:
        room = {name: getattr(self, name) for name in ROOM}
        return {"flavor": str(self.flavor.pk), **room, "price_per_hour": str(self.price_per_hour)}

    def told(self) -> dict[str, Any]:
        """For the log of events, and the plan of a dry run."""
        size = {name: getattr(self, name) for name in (*ROOM, "price_per_hour")}
        return {"flavor": self.flavor.name, **size, "network_mbps": self.flavor.network_mbps}


def faults(instance: Instance, flavor: Flavor) -> Iterator[str]:
    """Why an instance cannot have a flavor, however much room and quota there is."""
    if not flavor.enabled:
        yield f"{flavor} is not offered any more."
    if flavor.disk_gib < instance.disk_gib:
        words = f"{flavor} has {flavor.disk_gib} GiB of disk and {instance} has {instance.disk_gib} GiB"
        yield f"{words}; a disk never shrinks."
    if flavor.memory_mib < instance.image.min_memory_mib:
        needs = f"{instance.image.name} needs {instance.image.min_memory_mib} MiB of memory"
        yield f"{needs}; {flavor} has {flavor.memory_mib}."
    kind = KINDS[instance.hypervisor]
    if not kind.takes(vcpus=flavor.vcpus, memory_mib=flavor.memory_mib):
        most = f"at most {kind.most_vcpus} vCPU and {kind.most_memory_mib} MiB of memory"
        yield f"{kind.name} takes {most}; {flavor} has more."
    assert instance.host is not None
    if Size.by(flavor, instance).disk_gib > instance.disk_gib and not _grows_disks(instance.host):
        yield f"The agent of its host is too old to grow its disk to the {flavor.disk_gib} GiB of {flavor}: update it."


def _grows_disks(host: Host) -> bool:
    return bool(host.capabilities.get("resizes"))


def offered() -> list[Flavor]:
    return list(Flavor.objects.filter(enabled=True).order_by("memory_mib", "vcpus", "name")[:MAX_OFFERED])


def fitting(instance: Instance) -> str:
    """A sentence that names flavors which the instance could have."""
    fit = [flavor.name for flavor in offered() if flavor != instance.flavor and not any(faults(instance, flavor))]
    if not fit:
        return "No other flavor fits."
    return f"These fit: {', '.join(fit[:MAX_NAMED])}{' …' if len(fit) > MAX_NAMED else ''}."


def has_room(instance: Instance, flavor: Flavor) -> bool:
    """Whether its host has room for this flavor just now: for a page. What decides is `occupy`."""
    now, then = Size.of(instance), Size.by(flavor, instance)
    return all(getattr(instance.host, f"free_{name}") + getattr(now, name) >= getattr(then, name) for name in ROOM)


def become(instance: Instance, size: Size) -> None:
    """Write another size into the row of a locked instance. What it has cost is kept; `occupy` then counts anew."""
    kinds.end(INSTANCE, instance.pk, instance.project_id)
    limit_before = instance.flavor.network_mbps
    instance.flavor, instance.price_per_hour = size.flavor, size.price_per_hour
    for name in ROOM:
        setattr(instance, name, getattr(size, name))
    instance.save(update_fields=["flavor", "price_per_hour", *ROOM])
    if instance.flavor.network_mbps != limit_before:
        networking.follow_flavor(instance)


def occupy(instance: Instance, *sizes: Size, **also: Any) -> None:
    """Allocate room on its host for each of these sizes, instead of what it has: for two until it is certain which it
    will be. `also`: more columns of its allocation. Raises IntegrityError when there is not enough.
    """
    room = {name: max(getattr(size, name) for size in sizes) for name in ROOM}
    allocation = Allocation.of(INSTANCE, instance.pk).filter(host=instance.host)
    with transaction.atomic():
        changed = (allocation if also else allocation.exclude(**room)).update(**room, **also)
    if changed:
        offer_room()
