"""/api/v1/projects/{project}/instances/{instance}/metrics"""

from typing import Any

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.views import Item
from compute import samples
from compute.api.instances import InstanceView
from compute.models import METRICS

UNITS = {"cpu_percent": "percent of its vCPUs", "memory_mib": "MiB", "guest_memory_mib": "MiB"}


def unit(name: str) -> str:
    kinds = {"bytes": "bytes/s", "packets": "packets/s"}
    return UNITS.get(name) or next((unit for kind, unit in kinds.items() if kind in name), "operations/s")


class MetricSerializer(serializers.Serializer):
    unit = serializers.CharField()
    values = serializers.ListField(
        child=serializers.FloatField(allow_null=True), help_text="One for each step; null where nothing was measured."
    )


class MetricsSerializer(serializers.Serializer):
    """Even series of what an instance has used, as its host measured it.

    `memory_mib` is what its emulator holds, `guest_memory_mib` what its guest says that it uses, if it says so.
    """

    span = serializers.ChoiceField(tuple(samples.SPANS), allow_null=True, help_text="Null with `from`.")
    start = serializers.DateTimeField(help_text="When the first step begins.")
    step_seconds = serializers.IntegerField()
    metrics = type("MetricsByName", (serializers.Serializer,), {name: MetricSerializer() for name in METRICS})()


class MetricsView(InstanceView, Item):
    """What it has used: processors, memory, disk and network, in even steps."""

    serializer = MetricsSerializer  # type: ignore[assignment]
    parameters = {"GET": samples.RANGES.parameters()}

    @extend_schema(operation_id="instance_metrics")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked = samples.RANGES.read(self.query())
        return Response(shown(samples.series(self.one(kwargs["ref"]), asked.span), asked.name))


def shown(series: samples.Series, span: str) -> dict[str, Any]:
    return {
        "span": span or None,
        "start": series.start.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "step_seconds": series.step,
        "metrics": {
            name: {"unit": unit(name), "values": [None if value is None else round(value, 2) for value in values]}
            for name, values in series.values.items()
        },
    }


urlpatterns = [
    path("projects/<str:project>/instances/<str:ref>/metrics", MetricsView.as_view(), name="api-instance-metrics")
]
