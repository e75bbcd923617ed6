"""What was done, by whom, from what to what: in one project, and in the whole cloud."""

from datetime import UTC, datetime

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from cloud.events import reading
from cloud.events.models import Event
from cloud.events.pages import actions
from cloud.pages.base import Page
from cloud.tenancy.models import Project

NEWEST_FIRST = ("-transaction", "-id")


class Activity(Page):
    """What was done in a project, a row for each action. With `all`, or a filter by action: every event of its own."""

    template = "events/activity.html"
    partials = {"activity": "events/_activity.html"}
    section = "activity"
    help = "projects#activity"

    def get(self, request: HttpRequest, project: str) -> HttpResponse:
        found = narrow(reading.log(project_id=self.project.pk), request, of_project=True)
        page = self.slice(found, NEWEST_FIRST)
        is_folded = not (request.GET.get("action") or request.GET.get("all"))
        rows = actions.folded(page["rows"]) if is_folded else page["rows"]
        return self.show({**page, "rows": rows, "is_folded": is_folded, "filters": request.GET})


class Audit(Page):
    """The event log of the cloud, newest first."""

    template = "events/audit.html"
    partials = {"activity": "events/_activity.html"}
    section = "audit"
    help = "operating#audit"
    for_cloud_admins = True

    def get(self, request: HttpRequest) -> HttpResponse:
        page = self.slice(narrow(reading.log(), request, of_project=False), NEWEST_FIRST)
        names = Project.objects.filter(pk__in={row.project_id for row in page["rows"]}).values_list("pk", "name")
        return self.show({**page, "filters": request.GET, "whole_cloud": True, "project_names": dict(names)})


def narrow(found: "QuerySet[Event]", request: HttpRequest, *, of_project: bool) -> "QuerySet[Event]":
    """The events that the query string asks for: by actor, action, subject and request, as of a moment."""
    asked = {name: request.GET.get(name, "").strip().replace("\x00", "")[:80] for name in request.GET}
    if asked.get("actor"):
        found = reading.by(found, asked["actor"], of_project=of_project)
    for name, column in (("subject", "subject_name"), ("subject_id",) * 2, ("request_id",) * 2):
        if text := asked.get(name):
            found = found.filter(**{column: text})
    if moment := moment_of(asked.get("as_of", "")):
        found = reading.as_of(found, moment)
    return reading.of_action(found, asked["action"]) if asked.get("action") else found


def moment_of(text: str) -> datetime | None:
    """What a field for date and time holds, in UTC; None for what is no moment."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None
