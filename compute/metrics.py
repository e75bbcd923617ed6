"""Instances and capacity, for Prometheus."""

from django.db.models import Sum

from cloud.api.metrics import Samples, gauge
from cloud.hosts.models import Host
from compute.models import Instance
from compute.status import count_by_status


@gauge("pileus_instances", "Instances by status.", ("status",))
def instances() -> Samples:
    return [((status,), count) for status, count in count_by_status(Instance.objects.filter(trashed_at=None)).items()]


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
