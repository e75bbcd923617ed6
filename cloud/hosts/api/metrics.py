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

    span = serializers.ChoiceField(tuple(load.SPANS))
    start = serializers.DateTimeField(help_text="When the first step begins.")
    step_seconds = serializers.IntegerField()
    metrics = type(
        "HostMetricsByName", (serializers.Serializer,), {name: HostMetricSerializer() for name in load.METRICS}
    )()


class HostMetrics(HostView, Item):
    """What it has used: processors, memory and disk, in even steps."""

    serializer = HostMetricsSerializer  # type: ignore[assignment]
    forms = {}
    parameters = {
        "GET": {"span": serializers.ChoiceField(tuple(load.SPANS), help_text="How far back; 1h, when left out.")}
    }

    @extend_schema(operation_id="host_metrics")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        span = self.query().get("span", "1h")
        return Response({"span": span, **load.series(self.one(kwargs["ref"]), load.SPANS[span])})


urlpatterns = [path("hosts/<str:ref>/metrics", HostMetrics.as_view(), name="api-host-metrics")]
