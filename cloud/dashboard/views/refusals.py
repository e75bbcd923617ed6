"""Pages for what goes wrong before a page begins, or in the middle of it; and the developers' page of components."""

import sys
from types import SimpleNamespace
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from cloud.api import errors, middleware
from cloud.api.errors import Fault, Problem
from cloud.api.translate import problem_of
from cloud.dashboard.actions import Action
from cloud.dashboard.icons import PATHS
from cloud.dashboard.pages import KEEP_THE_PART, Page, theme_of
from compute.status import STATUSES


class SentFromElsewhere(errors.Forbidden):
    """The form did not come from a page of this cloud, or its cookie is gone."""

    title = "This form cannot be trusted"
    fix_by = "you"


def refusal(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A page that needs neither database nor session."""
    context = {"problem": problem, "request_id": getattr(request, "request_id", ""), "theme": theme_of(request)}
    response = render(request, "dashboard/bare_refusal.html", context, status=problem.status)
    for name, value in {**problem.headers, **KEEP_THE_PART}.items():
        response[name] = value
    response["Cache-Control"] = "no-store"
    return response


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, errors.NotFound())


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, errors.Forbidden())


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refusal(request, errors.Invalid())


def server_error(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(middleware.MACHINE_PATHS):
        return middleware.server_error(request)
    return refusal(request, problem_of(sys.exc_info()[1] or errors.Internal()))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return refusal(
        request,
        SentFromElsewhere("Go back, reload the page and send it again. Cookies must be allowed for this address."),
    )


class Components(Page):
    """Every component of the design in every state, for those who build pages."""

    template = "components.html"
    section = "components"

    def get(self, request: HttpRequest) -> HttpResponse:
        problem = errors.Invalid(
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
                    Action("start", "Start", "play", "It is running already."),
                    Action("stop", "Stop", "stop", asks=True),
                    Action("delete", "Delete", "trash", asks=True, style="danger"),
                ],
            }
        )
