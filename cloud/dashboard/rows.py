"""The rows that pages show, each list in one query, with all that showing them needs."""

from typing import Any

from django.db.models import Count, F, Func, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from cloud.events.models import Event
from cloud.hosts.models import Host
from cloud.hosts.silence import reachable_since
from cloud.operations.models import Operation
from cloud.tenancy.models import Project
from compute.models import Instance
from compute.status import as_listed, reason

TROUBLED = ("error", "unreachable")
SORTS = {
    "newest": ("-created_at", "-id"),
    "oldest": ("created_at", "id"),
    "name": ("name", "id"),
    "-name": ("-name", "-id"),
}


def instances_of(project: Project) -> "QuerySet[Instance]":
    """A project's instances as the API lists them, with what tells which verbs are possible."""
    return as_listed(Instance.objects.filter(project=project), "host__capabilities")


def troubled(instances: "QuerySet[Any]") -> "QuerySet[Any]":
    """Those that need somebody to look after them."""
    return instances.filter(status__in=TROUBLED)


def explain(instances: list[Instance]) -> list[Instance]:
    """Give each its reason in words, as the API would."""
    for instance in instances:
        instance.status_reason = reason(instance)  # type: ignore[attr-defined]
    return instances


def events(*, project: Project | None = None, subject: tuple[str, Any] | None = None) -> "QuerySet[Event]":
    """The event log, newest first: of a project, of one subject, or of the whole cloud."""
    found = Event.objects.all()
    if project is not None:
        found = found.filter(project_id=project.pk)
    if subject is not None:
        found = found.filter(subject_type=subject[0], subject_id=str(subject[1]))
    return found


def operations_of(subject_id: Any) -> "QuerySet[Operation]":
    return Operation.objects.filter(subject_id=subject_id).order_by("-started_at")


def hosts() -> "QuerySet[Host]":
    """Hosts with their pulse, whether they are reachable, what is placed on them, and their real number of vCPUs."""
    placed = Instance.objects.filter(host=OuterRef("pk")).order_by().values("host").annotate(n=Count("pk")).values("n")
    return (
        Host.objects.select_related("pulse")
        .defer("capabilities", "pulse__inventory", "token_digest", "redis_password_digest")
        .annotate(
            seen_at=F("pulse__seen_at"),
            reachable=Q(pulse__seen_at__gte=reachable_since()),
            instance_count=Coalesce(Subquery(placed, output_field=IntegerField()), 0),
            sold_vcpus=Func(F("vcpus") * F("vcpu_overcommit"), function="floor", output_field=IntegerField()),
        )
    )
