"""/api/v1/hosts/{host}/drain: emptying a host, for admins of the cloud."""

from typing import Any
from uuid import UUID

from django.http import Http404
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.fields import Flag
from cloud.api.serializers import Body
from cloud.api.views import Verb
from cloud.hosts.api.views import HostView
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.api import OperationSerializer
from cloud.operations.models import Operation
from compute import draining
from compute.drain import drain, planned


class LeftSerializer(serializers.Serializer):
    """Something that stays on the host."""

    type = serializers.ChoiceField((draining.INSTANCE, draining.VOLUME))
    id = serializers.UUIDField()
    name = serializers.CharField()
    project = serializers.CharField()
    why = serializers.CharField(help_text="Why it stays, and what can be done about it.")


class DrainSerializer(serializers.Serializer):
    """How far a host has been emptied."""

    operation = OperationSerializer(allow_null=True, help_text="Null: it never was.")
    restart = serializers.BooleanField(help_text="Whether what runs is stopped, moved and started again.")
    stays = LeftSerializer(many=True)


def shown(operation: Operation | None) -> dict[str, Any]:
    found: dict[str, Any] = {"operation": operation, "restart": False, "stays": []}
    if operation is not None:
        found |= {"restart": operation.parameters["restart"], "stays": draining.left_behind(operation)}
    body: dict[str, Any] = DrainSerializer(found).data
    return body


class DrainForm(Body):
    restart = Flag(required=False, help_text="Also what runs: it is stopped, moved and started again.")


class DrainHost(HostView, Verb):
    """`GET` says how far the last one is."""

    http_method_names = ["get", "head", "post", "options"]
    serializer = DrainSerializer  # type: ignore[assignment]
    forms = {"POST": DrainForm}
    summaries = {"POST": "Empty a host"}

    def act(self, host: Host, body: dict[str, Any]) -> dict[str, Any]:
        """Nothing new is placed on it; what is stopped there moves to other hosts, and so do volumes that are attached
        to nothing. What runs stays, and is named, unless `restart` has it stopped, moved and started again.
        """
        self.asked = body
        return shown(drain(host=Host.objects.get(pk=host.pk), actor=self.actor, **body))

    def plan(self, body: dict[str, Any]) -> dict[str, Any]:
        """What would move, and what would stay and why."""
        host = Host.objects.get(pk=UUID(body["operation"]["subject"]["id"]))
        return planned(host, restart=body["restart"])

    @extend_schema(operation_id="host_drain")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(shown(draining.latest(self.one(kwargs["ref"]))))


class CancelDrain(HostView, Verb):
    """What moves just now stays where it is, and the host stays cordoned."""

    summaries = {"POST": "Stop emptying a host"}
    serializer = DrainSerializer  # type: ignore[assignment]

    def act(self, host: Host, body: dict[str, Any]) -> dict[str, Any]:
        operation = draining.latest(host)
        if operation is None:
            raise Http404
        return shown(engine.cancel(operation.pk, actor=self.actor))


urlpatterns = [
    path("hosts/<str:ref>/drain", DrainHost.as_view()),
    path("hosts/<str:ref>/drain/cancel", CancelDrain.as_view()),
]
