"""What the dialogs of verbs let people choose from."""

from collections.abc import Callable
from typing import Any

from django.conf import settings

from cloud.tenancy.models import Project
from compute import volumes
from compute.models import Instance
from compute.networking import DEFAULT, HOLDER
from compute.pages.nics import network_words
from compute.services.snapshotting import MAX_OWN_NAME
from network.models import Network, Port, SecurityGroup
from network.pages.base import MAX_CHOICES, port_words
from storage.models import Volume

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
    return {
        "volumes": _volumes(Volume.objects.filter(project=project, attachments=None, failed_reason="", trashed_at=None))
    }


def _held_volumes(project: Project, instance: Instance | None) -> dict[str, Any]:
    held = Volume.objects.filter(project=project, attachments__holder_type=HOLDER, attachments__slot__gt=0)
    return {"volumes": _volumes(held.filter(attachments__holder_id=instance.pk) if instance else held)}


def _volumes(volumes: Any) -> Choices:
    return [(one.name, f"{one.name} ({one.size_gib} GiB)") for one in volumes.order_by("name")[:MAX_CHOICES]]


def _ports(ports: Any) -> Choices:
    found = ports.select_related("network").prefetch_related("addresses").order_by("name")[:MAX_CHOICES]
    return [(port.name, port_words(port)) for port in found]


def _snapshot(project: Project, instance: Instance | None) -> dict[str, Any]:
    return {"suggested_snapshot": f"{instance.name}-snapshot"[:MAX_OWN_NAME]} if instance else {}


def _trash(project: Project, instance: Instance | None) -> dict[str, Any]:
    held = list(volumes.held_by(instance)) if instance else []
    return {"trash_hours": settings.TRASH_HOURS, "attachments": held}


OFFERS: dict[str, Callable[[Project, Instance | None], dict[str, Any]]] = {
    "snapshot": _snapshot,
    "attach-nic": _new_nic,
    "detach-nic": _nics,
    "attach-volume": _free_volumes,
    "detach-volume": _held_volumes,
    "delete": _trash,
}
