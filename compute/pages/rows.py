"""The rows that pages show, each list in one query, with all that showing them needs."""

from typing import Any

from django.db.models import QuerySet

from cloud.api.pagination import DEFAULT_LIMIT
from cloud.queries import Prepared, built_once
from cloud.tenancy.models import Project
from compute.models import Instance, RestartPolicy
from compute.networking import with_addresses
from compute.status import as_listed
from compute.volumes import with_slots

TROUBLED = ("error", "unreachable")
RESTART_POLICIES = [
    (RestartPolicy.ON_CRASH, "On crash"),
    (RestartPolicy.NEVER, "Never"),
    (RestartPolicy.ALWAYS, "Always"),
]


def instances_of(project: Project) -> "QuerySet[Any]":
    """A project's instances as the API lists them, with what tells which verbs are possible."""
    return _all().filter(project=project, trashed_at=None)


def listed(instances: "QuerySet[Instance]", *more: str) -> "QuerySet[Any]":
    """With all that a list shows, and these columns."""
    return with_slots(with_addresses(as_listed(instances, "machine__host__capabilities", *more)))


@built_once
def _all() -> "QuerySet[Any]":
    return listed(Instance.objects.all())


@Prepared
def newest(project: Any) -> "QuerySet[Instance]":
    """What a project's list opens with."""
    return instances_of(project).order_by("-created_at", "-pk")[:DEFAULT_LIMIT]


def troubled(instances: "QuerySet[Any]") -> "QuerySet[Any]":
    """Those that need somebody to look after them."""
    return instances.filter(status__in=TROUBLED)
