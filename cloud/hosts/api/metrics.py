"""/api/v1/hosts/{host}/metrics"""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.views import Item
from cloud.hosts import load
from cloud.hosts.api.views import HostView


class HostMetricSerializer(serializers.Serializer):
    unit = serializers.CharField()
    values = serializers.ListField(
        child=serializers.FloatField(allow_null=True), help_text="One for each step; null where nothing was heard."
    )


class HostMetricsSerializer(serializers.Serializer):
    """Even series of what a host has used, with everything that runs on it."""

    span = serializers.ChoiceField(tuple(load.SPANS), allow_null=True, help_text="Null with `from`.")
    start = serializers.DateTimeField(help_text="When the first step begins.")
    step_seconds = serializers.IntegerField()
    metrics = type(
        "HostMetricsByName", (serializers.Serializer,), {name: HostMetricSerializer() for name in load.METRICS}
    )()


class HostMetrics(HostView, Item):
    """What it has used: processors, memory and disk, in even steps."""

    serializer = HostMetricsSerializer  # type: ignore[assignment]
    forms = {}
    parameters = {"GET": load.RANGES.parameters()}

    @extend_schema(operation_id="host_metrics")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked = load.RANGES.read(self.query())
        return Response({"span": asked.name or None, **load.series(self.one(kwargs["ref"]), asked.span)})


urlpatterns = [path("hosts/<str:ref>/metrics", HostMetrics.as_view(), name="api-host-metrics")]
