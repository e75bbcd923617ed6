"""What instances used, over time."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models

METRICS = (
    "cpu_percent",
    "memory_mib",
    "guest_memory_mib",
    "disk_read_bytes_per_second",
    "disk_write_bytes_per_second",
    "disk_reads_per_second",
    "disk_writes_per_second",
    "network_received_bytes_per_second",
    "network_sent_bytes_per_second",
    "network_received_packets_per_second",
    "network_sent_packets_per_second",
    "network_dropped_packets_per_second",
)


class Real(models.FloatField):
    """Four bytes of floating point: enough for what is drawn."""

    def db_type(self, connection: Any) -> str:
        return "real"


class Sample(models.Model):
    """What one instance used in some ten seconds. No foreign key: its check would lock the instance's row each time."""

    pk = models.CompositePrimaryKey("instance_id", "at")
    instance_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)
    cpu_percent = Real(null=True)
    memory_mib = Real(null=True)
    guest_memory_mib = Real(null=True)
    disk_read_bytes_per_second = Real(null=True)
    disk_write_bytes_per_second = Real(null=True)
    disk_reads_per_second = Real(null=True)
    disk_writes_per_second = Real(null=True)
    network_received_bytes_per_second = Real(null=True)
    network_sent_bytes_per_second = Real(null=True)
    network_received_packets_per_second = Real(null=True)
    network_sent_packets_per_second = Real(null=True)
    network_dropped_packets_per_second = Real(null=True)


def _packed(null: bool = False) -> ArrayField:
    return ArrayField(Real(null=True), null=null)


class PackedSamples(models.Model):
    """Means over even parts of the time from `at` on; null where nothing was measured."""

    pk = models.CompositePrimaryKey("instance_id", "at")
    instance_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)
    cpu_percent = _packed()
    memory_mib = _packed()
    disk_read_bytes_per_second = _packed()
    disk_write_bytes_per_second = _packed()
    disk_reads_per_second = _packed()
    disk_writes_per_second = _packed()
    network_received_bytes_per_second = _packed()
    network_sent_bytes_per_second = _packed()
    # Null: packed by a version that did not measure it.
    guest_memory_mib = _packed(null=True)
    network_received_packets_per_second = _packed(null=True)
    network_sent_packets_per_second = _packed(null=True)
    network_dropped_packets_per_second = _packed(null=True)

    class Meta:
        abstract = True


class SampleHour(PackedSamples):
    """An hour of minutes."""


class SampleDay(PackedSamples):
    """A day (UTC) of quarters of an hour."""
