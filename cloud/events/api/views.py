"""/api/v1/projects/{project}/events, and /api/v1/events for admins of the cloud: the log, as a list or as a stream."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api import pagination
from cloud.api.addresses import absolute
from cloud.api.pagination import Filter
from cloud.api.views import LIMIT, Collection, InProject
from cloud.events import reading
from cloud.events.api.serializers import EventSerializer
from cloud.events.models import Event
from cloud.events.reading import Cursor
from cloud.problems import Fault, Invalid, Unavailable
from cloud.streams import handover

EVENT_STREAM = "text/event-stream"


@extend_schema_field({"type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}$"})
class CursorField(serializers.Field):
    """Where in the log."""

    default_error_messages = {"invalid": "This is not an event's cursor."}

    def to_internal_value(self, data: Any) -> Cursor:
        return Cursor.parse(str(data)) or self.fail("invalid")

    def to_representation(self, value: Any) -> str:
        return str(value)


class EventLog(Collection):
    """The oldest first, or with `?newest_first=true` the newest. As text/event-stream: each event as it happens."""

    serializer = EventSerializer
    has_labels = False
    filters = {
        "subject": Filter(serializers.CharField(max_length=64, help_text="The id of what was changed."), "subject_id"),
        "subject_type": Filter(serializers.CharField(max_length=40)),
    }
    streams = True
    paging = {
        "after": CursorField(help_text="Only events behind this one."),
        "before": CursorField(help_text="Only events ahead of this one."),
        "newest_first": serializers.BooleanField(),
        "action": serializers.CharField(max_length=80),
        "actor": serializers.CharField(max_length=80),
        "limit": LIMIT,
    }

    def of_project(self) -> Any:
        """The id of the one project whose events these are; None for the whole cloud."""
        return None

    def rows(self) -> QuerySet[Event]:
        project = self.of_project()
        return Event.objects.all() if project is None else Event.objects.filter(project_id=project)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        filters = {name: known.field for name, known in self.filters.items()}
        values = self.query({**self.paging, **filters})
        if request.method == "GET" and EVENT_STREAM in request.headers.get("Accept", ""):
            return self.stream(request, values)
        return self.page(request, values)

    def page(self, request: Request, values: dict[str, Any]) -> Response:
        limit, down = values.get("limit", pagination.DEFAULT_LIMIT), values.get("newest_first", False)
        rows = pagination.narrow(reading.settled(self.rows()), self.filters, values)
        of_project = self.of_project() is not None
        if "actor" in values:
            rows = reading.by(rows, values["actor"], of_project=of_project)
        if "action" in values:
            rows = reading.of_action(rows, values["action"])
        if "after" in values:
            _require_past(values["after"], "?after")
            rows = reading.after(rows, values["after"])
        if "before" in values:
            rows = reading.before(rows, values["before"])
        order = ("-transaction", "-id") if down else ("transaction", "id")
        found = list(rows.order_by(*order)[: limit + 1])
        following = None
        if len(found) > limit:
            query = request.query_params.copy()
            query["before" if down else "after"] = str(Cursor.of(found[limit - 1]))
            following = absolute(f"{request.path}?{query.urlencode()}")
        shown = EventSerializer(found[:limit], many=True, context={"of_project": of_project})
        return Response({"items": shown.data, "next": following})

    def stream(self, request: Request, values: dict[str, Any]) -> HttpResponseBase:
        """Everything behind Last-Event-ID (or `after`), and from then on each event; without them, from now on."""
        last = request.headers.get("Last-Event-ID")
        cursor = Cursor.parse(last) if last else values.get("after")
        if last and cursor is None:
            raise Invalid(errors=[Fault("", "Last-Event-ID is not an event's cursor.")])
        if cursor is not None:
            _require_past(cursor, "" if last else "?after")
        if unknown := set(values) - {"after"}:
            raise Invalid(errors=[Fault(f"?{name}", "A stream is not filtered.") for name in sorted(unknown)])
        handed_over = handover.follow_events(request, self.scope, self.of_project(), cursor)
        if handed_over is None:
            raise Unavailable("Streams are not to be had at the moment. Poll with ?after=, or come back.")
        return handed_over


def _require_past(cursor: Cursor, pointer: str) -> None:
    """Raises Invalid for a cursor ahead of this log: from another cloud, or from before a restore of the database."""
    if cursor > reading.now():
        message = "This cursor is ahead of this event log (from another cloud, or from before a restore). Begin again."
        raise Invalid(message, errors=[Fault(pointer, message)])


class ProjectEvents(InProject, EventLog):
    def of_project(self) -> Any:
        return self.scope.project_id


class CloudEvents(EventLog):
    needs_admin = {"GET": True}


urlpatterns = [
    path("events", CloudEvents.as_view()),
    path("projects/<str:project>/events", ProjectEvents.as_view()),
]
