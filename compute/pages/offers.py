"""What the dialogs of verbs let people choose from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from cloud.pages import words
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from compute import sizes, volumes, why_not
from compute.models import Flavor, Instance
from compute.networking import DEFAULT, HOLDER
from compute.pages.nics import network_words
from compute.services.snapshotting import MAX_OWN_NAME
from compute.sizes import Size
from network.models import Network, Port, SecurityGroup
from network.pages.base import MAX_CHOICES, port_words
from storage.models import Attachment, Image, Volume, VolumeType
from storage.services import images_of

Choices = list[tuple[str, str]]


def of(verb: str, project: Project, instance: Instance | None = None) -> dict[str, Any]:
    """By field, the choices of a verb's dialog: for one instance, or for several of a project."""
    return OFFERS[verb](project, instance) if verb in OFFERS else {}


def _new_nic(project: Project, instance: Instance | None) -> dict[str, Any]:
    networks = Network.objects.filter(project=project).prefetch_related("subnets").order_by("name")[:MAX_CHOICES]
    groups = SecurityGroup.objects.filter(project=project).order_by("name")[:MAX_CHOICES]
    by_itself = [("", "Choose …")] if instance else []
    return {
        "networks": [*by_itself, *((one.name, network_words(one)) for one in networks)],
        "free_ports": [("", "None: a new one"), *_ports(Port.objects.filter(project=project, holder_id=None))],
        "groups": [(group.name, group.name == DEFAULT) for group in groups],
    }


def _nics(project: Project, instance: Instance | None) -> dict[str, Any]:
    if instance is None:
        networks = Network.objects.filter(project=project).order_by("name")[:MAX_CHOICES]
        return {"networks": [(one.name, one.name) for one in networks]}
    held = Port.objects.filter(holder_type=HOLDER, holder_id=instance.pk)
    return {"ports": _ports(held)}


def _free_volumes(project: Project, instance: Instance | None) -> dict[str, Any]:
    there = Volume.objects.filter(project=project, failed_reason="", trashed_at=None)
    return {"volumes": [*_volumes(there.filter(attachments=None)), *(_readable(there, instance) if instance else [])]}


def _readable(volumes: Any, instance: Instance) -> Choices:
    """Those that others read, and this instance can read, too."""
    held = Attachment.objects.filter(volume=OuterRef("pk"))
    read = volumes.filter(Exists(held), ~Exists(held.filter(Q(read_only=False) | Q(holder_id=instance.pk))))
    here = Q(active__host=instance.host) | Q(active__host=None)
    found = read.filter(here, type__pool_kind__in=VolumeType.WITH_READERS)
    return [(name, f"{words}, which others read: read only") for name, words in _volumes(found)]


def _held_volumes(project: Project, instance: Instance | None) -> dict[str, Any]:
    held = Volume.objects.filter(project=project, attachments__holder_type=HOLDER, attachments__slot__gt=0)
    return {"volumes": _volumes(held.filter(attachments__holder_id=instance.pk) if instance else held)}


def _volumes(volumes: Any) -> Choices:
    return [(one.name, f"{one.name} ({one.size_gib} GiB)") for one in volumes.order_by("name")[:MAX_CHOICES]]


def _ports(ports: Any) -> Choices:
    found = ports.select_related("network").prefetch_related("addresses").order_by("name")[:MAX_CHOICES]
    return [(port.name, port_words(port)) for port in found]


def _isos(project: Project, instance: Instance | None) -> dict[str, Any]:
    found = images_of(project).filter(status=Image.Status.READY, files__contains=[{"role": "cdrom"}])
    isos = [image for image in found[:MAX_CHOICES] if image.is_cdrom]
    return {"isos": [(image.exactly, f"{image.name} {image.version}".strip()) for image in isos]}


def _snapshot(project: Project, instance: Instance | None) -> dict[str, Any]:
    return {"suggested_snapshot": f"{instance.name}-snapshot"[:MAX_OWN_NAME]} if instance else {}


def _trash(project: Project, instance: Instance | None) -> dict[str, Any]:
    return {"trash_hours": settings.TRASH_HOURS, "fates": volumes.fates(instance) if instance else []}


@dataclass(frozen=True)
class OfferedFlavor:
    """`difference`: of the price of an hour, in words; `why_not`: empty when the instance can have it."""

    flavor: Flavor
    difference: str
    why_not: str


def _flavors(project: Project, instance: Instance | None) -> dict[str, Any]:
    offered = sizes.offered()
    if instance is None:
        return {"flavors": [(flavor.name, f"{flavor} ({_size_words(flavor)})") for flavor in offered]}
    if why_not.resize(instance):  # then none of them is possible
        return {"flavors": []}
    left = quota.usage(project)
    return {"flavors": [_offered(flavor, instance, left) for flavor in offered]}


def _offered(flavor: Flavor, instance: Instance, left: dict[str, quota.Use]) -> OfferedFlavor:
    faults = [*sizes.faults(instance, flavor)]
    if Size.by(flavor, instance) == Size.of(instance):
        faults = ["It has this flavor."]
    elif not faults:
        faults = [*_over_quota(flavor, instance, left)]
        faults += [] if sizes.has_room(instance, flavor) else ["Its host has no room for it."]
    more = flavor.price_per_hour - instance.price_per_hour
    difference = f"{words.price(abs(more))} an hour {'more' if more > 0 else 'less'}" if more else "the same price"
    return OfferedFlavor(flavor, difference, " ".join(faults))


def _over_quota(flavor: Flavor, instance: Instance, left: dict[str, quota.Use]) -> Iterator[str]:
    size = Size.by(flavor, instance)
    for kind in sizes.ROOM:
        more, use = getattr(size, kind) - getattr(instance, kind), left.get(kind)
        if use and use["left"] is not None and more > (rest := max(0, use["left"])):
            yield f"The quota has {words.limits_asked(f'{rest} {kind}')} left."


def _size_words(flavor: Flavor) -> str:
    return f"{flavor.vcpus} vCPU, {words.memory(flavor.memory_mib)}, {flavor.disk_gib} GiB disk"


OFFERS: dict[str, Callable[[Project, Instance | None], dict[str, Any]]] = {
    "snapshot": _snapshot,
    "resize": _flavors,
    "attach-nic": _new_nic,
    "detach-nic": _nics,
    "attach-volume": _free_volumes,
    "detach-volume": _held_volumes,
    "insert-cd": _isos,
    "delete": _trash,
}
