"""What instances used, over time."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models

DISK_METRICS = (
    "disk_read_bytes_per_second",
    "disk_write_bytes_per_second",
    "disk_reads_per_second",
    "disk_writes_per_second",
)
NIC_METRICS = (
    "network_received_bytes_per_second",
    "network_sent_bytes_per_second",
    "network_received_packets_per_second",
    "network_sent_packets_per_second",
    "network_dropped_packets_per_second",
)
DEVICE_METRICS = (*DISK_METRICS, *NIC_METRICS)
METRICS = ("cpu_percent", "memory_mib", "guest_memory_mib", *DEVICE_METRICS)


class Real(models.FloatField):
    """Four bytes of floating point: enough for what is drawn."""

    def db_type(self, connection: Any) -> str:
        return "real"


class Traffic(models.Model):
    """Of disks, of NICs, or of all of an instance."""

    disk_read_bytes_per_second = Real(null=True)
    disk_write_bytes_per_second = Real(null=True)
    disk_reads_per_second = Real(null=True)
    disk_writes_per_second = Real(null=True)
    network_received_bytes_per_second = Real(null=True)
    network_sent_bytes_per_second = Real(null=True)
    network_received_packets_per_second = Real(null=True)
    network_sent_packets_per_second = Real(null=True)
    network_dropped_packets_per_second = Real(null=True)

    class Meta:
        abstract = True


class Sample(Traffic):
    """What one instance used in some ten seconds. No foreign key: its check would lock the instance's row each time."""

    pk = models.CompositePrimaryKey("instance_id", "at")
    instance_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)
    cpu_percent = Real(null=True)
    memory_mib = Real(null=True)
    guest_memory_mib = Real(null=True)


class DeviceSample(Traffic):
    """What passed one disk or one NIC. A disk has the id of its volume, or of its instance; a NIC that of its port."""

    pk = models.CompositePrimaryKey("instance_id", "device_id", "at")
    instance_id = models.UUIDField()
    device_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)


def _packed(null: bool = False) -> ArrayField:
    return ArrayField(Real(null=True), null=null)


class PackedTraffic(models.Model):
    """Means over even parts of the time from `at` on; null where nothing was measured."""

    disk_read_bytes_per_second = _packed()
    disk_write_bytes_per_second = _packed()
    disk_reads_per_second = _packed()
    disk_writes_per_second = _packed()
    network_received_bytes_per_second = _packed()
    network_sent_bytes_per_second = _packed()
    # Null: packed by a version that did not measure it.
    network_received_packets_per_second = _packed(null=True)
    network_sent_packets_per_second = _packed(null=True)
    network_dropped_packets_per_second = _packed(null=True)

    class Meta:
        abstract = True


class PackedSamples(PackedTraffic):
    pk = models.CompositePrimaryKey("instance_id", "at")
    instance_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)
    cpu_percent = _packed()
    memory_mib = _packed()
    guest_memory_mib = _packed(null=True)

    class Meta:
        abstract = True


class SampleHour(PackedSamples):
    """An hour of minutes."""


class SampleDay(PackedSamples):
    """A day (UTC) of quarters of an hour."""


class PackedDeviceSamples(PackedTraffic):
    pk = models.CompositePrimaryKey("instance_id", "device_id", "at")
    instance_id = models.UUIDField()
    device_id = models.UUIDField()
    at = models.DateTimeField(db_index=True)

    class Meta:
        abstract = True


class DeviceHour(PackedDeviceSamples):
    """An hour of minutes of one disk or NIC."""


class DeviceDay(PackedDeviceSamples):
    """A day (UTC) of quarters of an hour of one disk or NIC."""
