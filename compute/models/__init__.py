"""What tenants have of compute, and how it stands with it."""

from compute.models.consoles import ConsoleLog, ConsoleTicket
from compute.models.flavors import Flavor
from compute.models.instances import Instance, Machine
from compute.models.keypairs import KeyPair
from compute.models.power import WISHES, Power, RestartPolicy
from compute.models.samples import METRICS, PackedSamples, Real, Sample, SampleDay, SampleHour

__all__ = [
    "METRICS",
    "WISHES",
    "ConsoleLog",
    "ConsoleTicket",
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
