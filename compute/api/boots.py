"""/api/v1/projects/{project}/instances/{instance}/boot"""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.views import Item
from compute import boots
from compute.api.instances import InstanceView

NAMES = ("asked", "placed", "ordered", "started", "kernel", "ready")


class StepSerializer(serializers.Serializer):
    name = serializers.ChoiceField(NAMES)
    at = serializers.DateTimeField()
    seconds = serializers.FloatField(help_text="Since it was asked for.")


class BootSerializer(serializers.Serializer):
    """How the latest start went, as far as it is known. `ready` is what the guest says on its serial console."""

    steps = StepSerializer(many=True)


class BootView(InstanceView, Item):
    """When the latest start was placed, ordered, begun, and said to be ready."""

    serializer = BootSerializer  # type: ignore[assignment]
    summaries = {"GET": "Show how the latest start went"}

    @extend_schema(operation_id="instance_boot")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        self.query()
        return Response(BootSerializer({"steps": boots.timeline(self.one(kwargs["ref"]))}).data)


urlpatterns = [path("projects/<str:project>/instances/<str:ref>/boot", BootView.as_view())]
