"""What is broken, since when, and what to do."""

from typing import Any

from django.http import HttpRequest, HttpResponse

from cloud.operations import checks
from cloud.operations.api.health import health
from cloud.operations.invariants import number_of
from cloud.operations.models import Check
from cloud.pages.base import Page
from cloud.pages.generic import VerbPage


class Health(Page):
    template = "operations/health.html"
    partials = {"health": "operations/_health.html"}
    section = "health"
    help = "operating#when-something-is-wrong"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        found = health()
        every = sorted(Check.objects.order_by("name"), key=lambda check: number_of(check.code))
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


class Repair(VerbPage):
    """Asks a control worker to put right what a check found."""

    model, key, listed_at = Check, "ident", "health"
    for_cloud_admins = True

    def act(self) -> Any:
        return checks.request_repair(check=self.item, actor=self.scope.actor)

    def done(self, result: Any) -> str:
        return "It is being repaired."
