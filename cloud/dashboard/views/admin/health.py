"""What is broken, since when and what to do; and how much more the cloud can take."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from cloud.api.errors import NotFound
from cloud.dashboard import rows
from cloud.dashboard.views.admin.hosts import OneHost
from cloud.operations import checks
from cloud.operations.api.health import health
from cloud.operations.models import Check
from cloud.operations.troubles import Case
from cloud.pages import links
from cloud.pages.base import Page
from compute.placement import capacity, drain


def place_of(case: Case) -> str:
    """The page about what a case concerns."""
    return links.of(case.type, case.id, case.project) or links.of(case.type, case.id, for_admins=True)


class Health(Page):
    template = "dashboard/admin/health.html"
    partials = {"health": "dashboard/admin/_health.html"}
    section = "health"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        found = health()
        for kind in found["troubles"]:
            for case in kind.cases:
                object.__setattr__(case, "url", place_of(case))
        every = list(Check.objects.order_by("code", "name"))
        return self.show(
            {
                **found,
                "kept": [check for check in every if not check.count and not check.problem],
                "looked_at": min((check.checked_at for check in every), default=None),
                "is_well": not found["troubles"]
                and not found["broken"]
                and all(each["ok"] for each in found["dependencies"]),
            }
        )


class Repair(Page):
    """Asks a control worker to put right what a check found."""

    for_cloud_admins = True

    def post(self, request: HttpRequest, ident: str) -> HttpResponse:
        found = Check.objects.filter(pk=ident).first()
        if found is None:
            raise NotFound()
        return self.mutate(
            lambda: checks.request_repair(check=found, actor=self.scope.actor),
            to=reverse("health"),
            done="It is being put right.",
        )


class Capacity(Page):
    """How much more fits, host by host."""

    template = "dashboard/admin/capacity.html"
    partials = {"capacity": "dashboard/admin/_capacity.html", "hosts": "dashboard/admin/_hosts.html"}
    section = "capacity"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        context: dict[str, Any] = self.slice(rows.hosts(), ("name", "id"))
        if request.headers.get("HX-Target") != "hosts":
            context |= {"totals": capacity.totals(), "fits": capacity.fits(), "kinds": capacity.image_kinds()}
        return self.show(context)


class Drain(OneHost):
    """What taking a host out of service would do, before it is done."""

    template = "dashboard/admin/drain.html"
    partials = {"dialog-body": "dashboard/admin/_drain.html", "moves": "dashboard/admin/_moves.html"}

    def get(self, request: HttpRequest, host: str) -> HttpResponse:
        if "moves" in request.GET:
            return self.show({"host": self.host, **self.moves()}, template="dashboard/admin/_moves.html")
        now, then = capacity.fits(), capacity.fits(without=self.host.pk)
        lines = [
            {"flavor": flavor, "kind": before.kind, "before": before.count, "after": after.count}
            for (flavor, fits), (_, rest) in zip(now, then, strict=True)
            for before, after in zip(fits, rest, strict=True)
            if before.count
        ]
        return self.show({"host": self.host, "lines": lines})

    def moves(self) -> dict[str, Any]:
        """Where each instance would go, if the host had to be emptied; those without a place first."""
        found = drain.simulate(self.host.pk)
        stuck = [move for move in found if not move.host]
        return {"moves": stuck + [move for move in found if move.host], "stuck": len(stuck), "most": drain.MOST}
