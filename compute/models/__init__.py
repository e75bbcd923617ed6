"""What tenants have of compute, and how it stands with it."""

from compute.models.consoles import ConsoleLog, ConsoleTicket
from compute.models.flavors import Flavor
from compute.models.instances import Instance, Machine
from compute.models.keypairs import KeyPair
from compute.models.power import WISHES, Power, RestartPolicy
from compute.models.samples import (
    DEVICE_METRICS,
    DISK_METRICS,
    METRICS,
    NIC_METRICS,
    DeviceDay,
    DeviceHour,
    DeviceSample,
    PackedSamples,
    Real,
    Sample,
    SampleDay,
    SampleHour,
)

__all__ = [
    "DEVICE_METRICS",
    "DISK_METRICS",
    "METRICS",
    "NIC_METRICS",
    "WISHES",
    "ConsoleLog",
    "ConsoleTicket",
    "DeviceDay",
    "DeviceHour",
    "DeviceSample",
    "Flavor",
    "Instance",
    "KeyPair",
    "Machine",
    "PackedSamples",
    "Power",
    "Real",
    "RestartPolicy",
    "Sample",
    "SampleDay",
    "SampleHour",
]
