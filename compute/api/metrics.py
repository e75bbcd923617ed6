"""/api/v1/projects/{project}/instances/{instance}/metrics"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from cloud.api.views import Item
from compute import devices, samples
from compute.api.instances import InstanceView
from compute.models import DISK_METRICS, METRICS, NIC_METRICS

UNITS = {"cpu_percent": "percent of its vCPUs", "memory_mib": "MiB", "guest_memory_mib": "MiB"}


def unit(name: str) -> str:
    kinds = {"bytes": "bytes/s", "packets": "packets/s"}
    return UNITS.get(name) or next((unit for kind, unit in kinds.items() if kind in name), "operations/s")


class MetricSerializer(serializers.Serializer):
    unit = serializers.CharField()
    values = serializers.ListField(
        child=serializers.FloatField(allow_null=True), help_text="One for each step; null where nothing was measured."
    )


def _by_name(title: str, metrics: tuple[str, ...]) -> serializers.Serializer:
    made: serializers.Serializer = type(
        title, (serializers.Serializer,), {name: MetricSerializer() for name in metrics}
    )()
    return made


class DiskMetricsSerializer(serializers.Serializer):
    name = serializers.CharField(help_text="Of the volume; of the instance for its own disk; empty when it is gone.")
    metrics = _by_name("DiskMetricsByName", DISK_METRICS)


class NicMetricsSerializer(serializers.Serializer):
    name = serializers.CharField(help_text="Its network and its addresses there; empty when it is gone.")
    metrics = _by_name("NicMetricsByName", NIC_METRICS)


class MetricsSerializer(serializers.Serializer):
    """Even series of what an instance has used, as its host measured it.

    `memory_mib` is what its emulator holds, `guest_memory_mib` what its guest says that it uses, if it says so.
    For an instance with several disks or NICs, `disks` and `nics` have the same for each of them. The id of a disk is
    that of its volume (of the instance, for its own disk), the id of a NIC that of its port.
    """

    span = serializers.ChoiceField(tuple(samples.SPANS), allow_null=True, help_text="Null with `from`.")
    start = serializers.DateTimeField(help_text="When the first step begins.")
    step_seconds = serializers.IntegerField()
    metrics = _by_name("MetricsByName", METRICS)
    disks = serializers.DictField(child=DiskMetricsSerializer())
    nics = serializers.DictField(child=NicMetricsSerializer())


class MetricsView(InstanceView, Item):
    """What it has used: processors, memory, disk and network, in even steps."""

    serializer = MetricsSerializer  # type: ignore[assignment]
    parameters = {"GET": samples.RANGES.parameters()}

    @extend_schema(operation_id="instance_metrics")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked = samples.RANGES.read(self.query())
        instance = self.one(kwargs["ref"])
        series = samples.series(instance, asked.span)
        return Response(shown(series, asked.name, devices.names_of(instance, series)))


def shown(series: samples.Series, span: str, named: Mapping[UUID, str]) -> dict[str, Any]:
    return {
        "span": span or None,
        "start": series.start.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "step_seconds": series.step,
        "metrics": _told(series.values, METRICS),
        **{
            kind: {
                str(device): {"name": named.get(device, ""), "metrics": _told(series.devices[device], metrics)}
                for device in devices.of_kind(series, metrics)
            }
            for kind, metrics in devices.KINDS.items()
        },
    }


def _told(values: samples.ByMetric, metrics: tuple[str, ...]) -> dict[str, Any]:
    rounded = {name: [None if value is None else round(value, 2) for value in values[name]] for name in metrics}
    return {name: {"unit": unit(name), "values": found} for name, found in rounded.items()}


urlpatterns = [
    path("projects/<str:project>/instances/<str:ref>/metrics", MetricsView.as_view(), name="api-instance-metrics")
]
