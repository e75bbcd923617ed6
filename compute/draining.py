"""What leaves a host that is emptied, and what has to stay there, in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from cloud.hosts.models import Host
from cloud.operations.models import Operation
from compute import why_not
from compute.models import Instance, Power
from storage.models import Volume
from storage.models.types import PoolKind

DRAIN = "compute.drain"
INSTANCE, VOLUME = "instance", "volume"
SERVED = "This is its storage host, where it stays. Back it up, and restore the backup as a volume of another type."


@dataclass(frozen=True)
class Found:
    """Something on the host. `stays`: why, in words; "" for what moves."""

    type: str
    id: UUID
    name: str
    project: str
    stays: str = ""
    runs: bool = False  # so it is stopped before, and started afterwards

    @property
    def key(self) -> str:
        return f"{self.type}:{self.id}"

    def told(self) -> dict[str, str]:
        return {"type": self.type, "id": str(self.id), "name": self.name, "project": self.project, "why": self.stays}


def found_on(host: Host, *, restart: bool) -> list[Found]:
    """All instances, and volumes that move by themselves; with `restart` those that run are moved, too."""
    return [*_instances(host, restart), *_volumes(host)]


def _instances(host: Host, restart: bool) -> Iterator[Found]:
    placed = Instance.objects.filter(machine__host=host).select_related("machine__host", "project", "image")
    for instance in placed.order_by("-memory_mib", "name", "pk"):
        runs = instance.wanted_power == Power.RUNNING and instance.seen == Power.RUNNING
        stays = _why_it_stays(instance)
        if stays and restart and runs and not instance.trashed_at:
            stays = ""
        yield Found(INSTANCE, instance.pk, instance.name, instance.project.name, stays, runs and not stays)


def _why_it_stays(instance: Instance) -> str:
    if instance.trashed_at:
        return "It is in the trash. It is deleted for good within a day, or purge it now."
    if instance.wanted_power == Power.RUNNING:
        return "It runs, and there is no live migration. Stop it first, or drain with restart."
    return why_not.move(instance)


def _volumes(host: Host) -> Iterator[Found]:
    """Those that no instance on the host takes along."""
    there = Volume.objects.filter(active__host=host).select_related("project", "type")
    there = there.filter(Q(attachments=None) | Q(type__pool_kind=PoolKind.NBD))
    for volume in there.order_by("name", "pk"):
        yield Found(VOLUME, volume.pk, volume.name, volume.project.name, SERVED if volume.type.is_served else "")


def latest(host: Host) -> Operation | None:
    """The last time that it was emptied."""
    return Operation.objects.filter(subject_type="host", subject_id=host.pk, kind=DRAIN).order_by("-started_at").first()


def left_behind(operation: Operation) -> list[dict[str, str]]:
    """What stayed, and why: [{"type", "id", "name", "project", "why"}]."""
    return list(operation.parameters.get("stays", {}).values())
