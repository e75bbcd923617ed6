"""/api/v1/projects/{project}/instances/{instance}/console-log"""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.views import Item, conditional
from compute import console_logs
from compute.api.instances import InstanceView

MAX_LINES = 5000


class ConsoleLogSerializer(serializers.Serializer):
    """The end of what the guest has written to its serial console."""

    lines = serializers.ListField(child=serializers.CharField())
    truncated = serializers.BooleanField(help_text="Whether there was more before these lines.")


class ConsoleLogView(InstanceView, Item):
    """What the guest has written to its serial console. Searching it is for the reader."""

    serializer = ConsoleLogSerializer  # type: ignore[assignment]
    parameters = {
        "GET": {
            "lines": serializers.IntegerField(min_value=1, max_value=MAX_LINES, help_text="200, when left out."),
            "whole": serializers.BooleanField(help_text="All lines that the host still keeps, instead."),
        }
    }

    @extend_schema(operation_id="instance_console_log")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked = self.query()
        instance = self.one(kwargs["ref"])
        if asked.get("whole"):
            lines, truncated = console_logs.whole(instance)
        else:
            lines, truncated = console_logs.end(instance, lines=asked.get("lines", 200))
        return conditional(request, {"lines": lines, "truncated": truncated})


urlpatterns = [
    path("projects/<str:project>/instances/<str:ref>/console-log", ConsoleLogView.as_view()),
]
