"""What may be done with volume types, which admins of the cloud offer; and which one a volume gets."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from cloud.changes import change
from cloud.events.services import Actor, record
from cloud.problems import Conflict, explain_constraint
from cloud.tenancy.models import Project
from storage import pools
from storage.holders import kind_of
from storage.models import Attachment, Volume, VolumeType
from storage.models.types import PoolKind

explain_constraint(
    "default_volume_type_is_for_everybody",
    "The default type is for every project: make another type the default first.",
    pointer="/default",
)
NAME_OF_FIRST = "standard"
LIMITS = ("iops", "mib_per_second")


def default() -> VolumeType:
    """What volumes are of that do not say it. Every cloud has one, and it cannot be deleted."""
    found, _ = VolumeType.objects.get_or_create(is_default=True, defaults={"name": NAME_OF_FIRST})
    return found


def offered_to(project: Project) -> "QuerySet[VolumeType]":
    """What a project may use for its volumes."""
    return VolumeType.objects.filter(Q(public=True) | Q(projects=project), enabled=True).distinct()


def facts(project: Project, wished: VolumeType | None, *, like: Volume | None = None) -> dict[str, Any]:
    """The fields of a new volume that follow from its type: the wished one, that of another volume, or the default."""
    if wished is None and like is not None:
        wished = offered_to(project).filter(pk=like.type_id).first()
    chosen = wished or default()
    return {"type": chosen, "price_per_gib_hour": chosen.price_per_gib_hour}


def create(*, actor: Actor, wished: Mapping[str, Any]) -> VolumeType:
    """Offer a new type."""
    columns = {field: value for field, value in wished.items() if field not in ("projects", "rebind")}
    columns |= _place(columns.get("pool"))
    if columns.get("is_default"):
        _leave_default()
    made = VolumeType.objects.create(**columns)
    made.projects.set(wished.get("projects", ()))
    record("storage.volume_type.create", made, actor=actor, after=_told(wished))
    return made


def update(*, volume_type: VolumeType, actor: Actor, changes: Mapping[str, Any]) -> VolumeType:
    """Change what is offered. Volumes of it obey new limits at once, also running machines'; they keep their price.

    Raises Conflict for a default that would not be the default any more: another one takes its place.
    """
    columns = {field: value for field, value in changes.items() if field not in ("projects", "rebind")}
    volume_type = VolumeType.objects.select_for_update().get(pk=volume_type.pk)  # two that change it take turns
    if columns.get("is_default") is False and volume_type.is_default:
        raise Conflict(f"{volume_type} is the default. Make another type the default instead.")
    if columns.get("is_default") and not volume_type.is_default:
        _leave_default()
    moves = "pool" in columns and columns["pool"] != volume_type.pool
    if moves or changes.get("rebind"):  # then its storage host is who says so now
        columns |= _place(columns.get("pool", volume_type.pool))
    volume_type, before = change(volume_type, columns)
    if "projects" in changes:
        before["projects"] = list(volume_type.projects.order_by("name"))
        volume_type.projects.set(changes["projects"])
    if moves and volume_type.volumes.exists():
        raise Conflict(f"{volume_type} has volumes, and these stay where they are. Make another type.")
    if any(before[field] != changes[field] for field in LIMITS if field in changes):
        _tell_holders(volume_type)
    record("storage.volume_type.update", volume_type, actor=actor, before=_told(before), after=_told(changes))
    return volume_type


def _place(pool: UUID | None) -> dict[str, Any]:
    """What is kept of where its volumes are: a storage host by its id, so that no other one can pass for it. Raises
    Invalid."""
    kind = pools.kind_of(pool)
    return {"pool_kind": kind, "served_by": pools.who_serves(pool) if pool and kind == PoolKind.NBD else None}


def _leave_default() -> None:
    """Of two that make a type the default, the second sees what the first has made it."""
    list(VolumeType.objects.select_for_update().filter(is_default=True))
    VolumeType.objects.filter(is_default=True).update(is_default=False)


def _tell_holders(volume_type: VolumeType) -> None:
    """Have the hosts of all machines that use such volumes see to their limits."""
    held = Attachment.objects.filter(volume__type=volume_type, wanted=True)
    for holder_type, holder_id in held.values_list("holder_type", "holder_id").distinct().order_by("holder_id"):
        kind_of(holder_type).tell(holder_id)


def delete(*, volume_type: VolumeType, actor: Actor) -> None:
    """Offer it no more. Refused while volumes are of it, and for the default: disabling hides it from new volumes."""
    if volume_type.is_default:
        raise Conflict(f"{volume_type} is the default. Make another type the default first.")
    record("storage.volume_type.delete", volume_type, actor=actor, before={"name": volume_type.name})
    volume_type.delete()


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """For the log of events."""
    told = {field.removeprefix("is_"): value for field, value in values.items()}
    if told.get("pool"):
        told["pool"] = str(told["pool"])
    return told | ({"projects": [project.name for project in values["projects"]]} if "projects" in values else {})
