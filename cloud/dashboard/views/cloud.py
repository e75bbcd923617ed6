"""The cloud as a whole, for its admins: what needs them, what is used, what is left."""

from typing import Any

from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse

from cloud.hosts.pages.hosts import listed
from cloud.operations.api.health import health
from cloud.operations.models import Operation
from cloud.operations.troubles import FAILED_WORK, recent_failures
from cloud.pages.base import Page
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from compute.models import Instance
from compute.pages.rows import TROUBLED
from compute.placement import capacity
from compute.status import count_by_status

MAX_TROUBLES = 4
MAX_HOSTS = 8
MAX_FLAVORS = 8
MAX_FAILURES = 6
MAX_PROJECTS = 6
NEAR = 0.8  # of a limit, from which on a project is near its quota


class CloudOverview(Page):
    """What to do first, how busy hosts are, how much more fits, what failed lately, and who runs out of quota."""

    template = "dashboard/cloud/overview.html"
    partials = {"cloud": "dashboard/cloud/_overview.html"}
    section = "cloud"
    help = "operating#everyday"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.show(
            {**self.needs(), **self.room(), **self.instances(), "failures": failures(), "near": near_quota()}
        )

    def needs(self) -> dict[str, Any]:
        """What an admin should look at, what stops everything first."""
        found = health()
        down = [each for each in found["dependencies"] if not each["ok"]]
        # Failed work has a card of its own.
        troubles = [trouble for trouble in found["troubles"] if trouble.title != FAILED_WORK]
        return {
            "down": down,
            "broken": found["broken"],
            "troubles": troubles[:MAX_TROUBLES],
            "more_troubles": len(troubles[MAX_TROUBLES:]),
            "is_well": not (down or found["broken"] or found["troubles"]),
        }

    def room(self) -> dict[str, Any]:
        """The hosts, those first that are not in service, then the busiest; and how many more of each flavor fit."""
        by_load = F("pulse__load__cpu_percent").desc(nulls_last=True)
        fits = capacity.fits()
        hosts: QuerySet[Any] = listed()
        hosts = hosts.order_by("reachable", "enabled", by_load, "name")
        return {
            "hosts": list(hosts[:MAX_HOSTS]),
            "totals": capacity.totals(),
            "several_kinds": any(len(found) > 1 for _, found in fits),
            "fits": [(flavor, [fit for fit in found if fit.count]) for flavor, found in fits[:MAX_FLAVORS]],
        }

    def instances(self) -> dict[str, Any]:
        counts = count_by_status(Instance.objects.filter(trashed_at=None))
        return {
            "total": sum(counts.values()),
            "running": counts.get("running", 0),
            "troubled": sum(counts.get(status, 0) for status in TROUBLED),
        }


def failures() -> list[tuple[Operation, str]]:
    """The latest work that failed, each with the name of its project."""
    failed = list(recent_failures().defer("history").order_by("-finished_at")[:MAX_FAILURES])
    names = Project.objects.in_bulk({operation.project_id for operation in failed if operation.project_id})
    return [
        (operation, names[operation.project_id].name if operation.project_id in names else "") for operation in failed
    ]


def near_quota() -> list[tuple[Project, list[dict[str, Any]]]]:
    """The projects that are near their quota, the nearest first, each with the limits that it is near."""
    found = []
    for project, uses in quota.nearest(NEAR, MAX_PROJECTS):
        found.append((project, [{"kind": kind, **use} for kind, use in uses.items()]))
    return found
