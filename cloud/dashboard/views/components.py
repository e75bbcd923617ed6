"""The developers' page of components."""

from types import SimpleNamespace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from cloud import problems
from cloud.pages.base import Page
from cloud.pages.icons import PATHS
from cloud.problems import Fault
from compute.pages.actions import Action
from compute.status import STATUSES
from compute.verbs import VERBS


class Components(Page):
    """Every component of the design in every state, for those who build pages."""

    template = "dashboard/components.html"
    section = "components"

    def get(self, request: HttpRequest) -> HttpResponse:
        problem = problems.Invalid(
            "Two things are wrong.",
            errors=[Fault("/broken", "Use 1 to 63 lower-case letters, digits and hyphens."), Fault("", "No room.")],
        )
        now: Any = timezone.now()
        operation = SimpleNamespace(
            pk="00000000-0000-0000-0000-000000000000", kind="compute.launch", subject_name="amber-heron", step="boot",
            reason="waiting for the host to start it", progress_of=10, progress_done=4, progress_unit="MiB",
            history=[{"step": "place", "reason": "", "at": now.isoformat()}], started_at=now, requested_by="mia",
            cancel_requested_at=None, finished_at=None, outcome="",
        )  # fmt: skip
        return self.show(
            {
                "statuses": STATUSES,
                "icons": sorted(PATHS),
                "problem": problem,
                "values": {"broken": "Not A Name", "filled": "amber-heron", "ticked": "on"},
                "choices": [("small", "Small"), ("large", "Large")],
                "now": now,
                "operation": operation,
                "actions": [
                    Action(VERBS["start"], "It is running already."),
                    Action(VERBS["stop"]),
                    Action(VERBS["delete"]),
                ],
            }
        )
