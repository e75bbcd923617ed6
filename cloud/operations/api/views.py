"""/api/v1/projects/{project}/operations: looking at work, waiting for it, cancelling it."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request

from cloud.api.fields import as_uuid
from cloud.api.pagination import Filter
from cloud.api.views import Collection, InProject, Item, Verb, conditional
from cloud.operations import engine
from cloud.operations.api.serializers import OperationSerializer, shown
from cloud.operations.models import Operation, Outcome
from cloud.problems import NotFound
from cloud.streams import handover

MAX_WAIT = 60
WAIT = serializers.IntegerField(
    min_value=0, max_value=MAX_WAIT, help_text="Answer when it has finished, at latest after so many seconds."
)


class OperationView(InProject):
    serializer = OperationSerializer

    def rows(self) -> QuerySet[Operation]:
        return Operation.objects.filter(project_id=self.scope.project_id)

    def one(self, reference: str, *, name: str = "") -> Operation:
        ident = as_uuid(reference)
        found = self.rows().filter(pk=ident).first() if ident else None
        if found is None:
            raise NotFound()
        return found


class Operations(OperationView, Collection):
    """The latest first."""

    order = ("-started_at", "-id")
    has_labels = False
    filters = {
        "kind": Filter(serializers.CharField()),
        "outcome": Filter(serializers.ChoiceField(Outcome.choices)),
        "subject": Filter(serializers.UUIDField(help_text="The id of what is worked on."), "subject_id"),
        "live": Filter(serializers.BooleanField(help_text="Whether it is under way."), "finished_at__isnull"),
    }


class OneOperation(OperationView, Item):
    """With `wait` the answer comes when it has ended, or the seconds are over."""

    parameters = {"GET": {"wait": WAIT}}

    def is_wait(self, request: Request) -> bool:
        """A wait is not counted, unless it turns out that there is nothing to wait for."""
        return request.method == "GET" and request.query_params.get("wait", "0") not in {"0", ""}

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        seconds = self.query().get("wait", 0)
        operation = self.one(kwargs["ref"])
        if seconds and operation.finished_at is None and self.is_wait(request):
            handed_over = handover.wait_for_operation(request, self.scope, operation.pk, seconds)
            if handed_over is not None:
                return handed_over
        if self.is_wait(request):
            self.count(request)
        return conditional(request, self.show(operation))


class Cancel(OperationView, Verb):
    """Asks it to give up; its outcome tells whether it did."""

    successes = {"POST": 202}

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        reference = kwargs["ref"]
        return self.mutate(lambda: self.cancelled(self.one(reference).pk), target=reference)

    def cancelled(self, operation_id: UUID) -> dict[str, Any]:
        return shown(engine.cancel(operation_id, actor=self.actor))


urlpatterns = [
    path("projects/<str:project>/operations", Operations.as_view()),
    path("projects/<str:project>/operations/<str:ref>", OneOperation.as_view()),
    path("projects/<str:project>/operations/<str:ref>/cancel", Cancel.as_view()),
]
