"""The rows that pages show, each list in one query, with all that showing them needs."""

from typing import Any

from django.db.models import QuerySet

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


def operations_of(subject_id: Any) -> "QuerySet[Operation]":
    return Operation.objects.filter(subject_id=subject_id).order_by("-started_at")
