"""Instances and capacity, for Prometheus."""

from django.db.models import Count, Sum

from cloud.api.metrics import Samples, gauge
from cloud.hosts.models import Host
from compute.models import Instance
from compute.status import with_status


@gauge("pileus_instances", "Instances by status.", ("status",))
def instances() -> Samples:
    counted = with_status(Instance.objects.all()).values("status").annotate(count=Count("pk")).order_by("status")
    return [((row["status"],), row["count"]) for row in counted]


@gauge("pileus_capacity", "What hosts in service have, by resource.", ("resource",))
def capacity() -> Samples:
    return _sums(vcpus="vcpus", memory_mib="memory_mib", disk_gib="disk_gib")


@gauge("pileus_capacity_free", "What is free on hosts in service, by resource.", ("resource",))
def free() -> Samples:
    return _sums(vcpus="free_vcpus", memory_mib="free_memory_mib", disk_gib="free_disk_gib")


def _sums(**columns: str) -> Samples:
    hosts = Host.objects.filter(enabled=True)
    sums = hosts.aggregate(**{name: Sum(column) for name, column in columns.items()})
    return [((name,), total or 0) for name, total in sums.items()]
