"""What the machines of this host use: looked at every ten seconds, told in one message.

Processor and memory are read from /proc, disks are asked of the emulator, one short question each, and traffic of the
host's network process, one question for all. A rate needs two looks at the same process, and what could not be seen is
left out: a gap is true, a zero would not be.
"""

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent import processes
from agent.control_plane import ControlPlane
from agent.entries import Entry
from agent.errors import NoAnswer, Refused
from agent.ledger import Ledger
from agent.processes import Process, Usage
from compute.agent.hypervisors.base import Counters
from compute.agent.records import TYPE

if TYPE_CHECKING:
    from compute.agent.kinds import Machines

SECONDS_BETWEEN_SAMPLES = 10.0
MAX_ROUNDS_KEPT = 30  # while the control plane is away; it refuses samples older than ten minutes
RATES = {
    "disk_read_bytes": "disk_read_bytes_per_second",
    "disk_write_bytes": "disk_write_bytes_per_second",
    "disk_reads": "disk_reads_per_second",
    "disk_writes": "disk_writes_per_second",
    "network_received_bytes": "network_received_bytes_per_second",
    "network_sent_bytes": "network_sent_bytes_per_second",
    "network_received_packets": "network_received_packets_per_second",
    "network_sent_packets": "network_sent_packets_per_second",
    "network_dropped_packets": "network_dropped_packets_per_second",
}


@dataclass(frozen=True)
class Look:
    """One look at one machine."""

    process: Process
    at: float
    usage: Usage
    counters: Counters


class Samples:
    """Measures all machines of a host; keeps the last sample of each, and the samples that are not sent yet."""

    def __init__(self, machines: "Machines", ledger: Ledger, control_plane: ControlPlane) -> None:
        self._machines = machines
        self._ledger = ledger
        self._control_plane = control_plane
        self._last: dict[str, Look] = {}
        self._untold: deque[tuple[float, list[dict[str, Any]]]] = deque(maxlen=MAX_ROUNDS_KEPT)

    def take(self) -> list[dict[str, Any]]:
        """Measure every running machine: what it used since the last sample."""
        looks, samples = {}, []
        ports = self._ports()
        for entry in self._ledger.entries(TYPE):
            look = self._look(entry, ports)
            if look is None:
                continue
            looks[entry.id] = look
            samples.append({"id": entry.id, **_sample(self._last.get(entry.id), look, int(entry.spec["vcpus"]))})
        self._last = looks
        if samples:
            self._untold.append((time.monotonic(), samples))
        return samples

    def tell(self) -> None:
        """Send the samples with their ages, because hosts' clocks are not trusted. Raises Unreachable."""
        if self._untold:
            rounds, now = list(self._untold), time.monotonic()
            told = [{**sample, "age": round(now - at, 3)} for at, samples in rounds for sample in samples]
            self._control_plane.tell("POST", "/agent/v1/samples", json={"samples": told}, ignored=(400, 404))
            self._untold.clear()

    def _ports(self) -> dict[str, dict[str, Any]]:
        """What all ports of this host have counted."""
        try:
            return dict(self._machines.tools.plugs.counters()["ports"])
        except (NoAnswer, Refused):
            return {}

    def _look(self, entry: Entry, ports: dict[str, dict[str, Any]]) -> Look | None:
        process = self._machines.tools.records.get(entry.id).process
        if process is None or entry.quarantined or entry.order is not None:
            return None
        usage = processes.usage(process)
        if usage is None:
            return None
        counters = replace(self._counters(entry), **_traffic(entry.spec.get("nics", []), ports))
        return Look(process, time.monotonic(), usage, counters)

    def _counters(self, entry: Entry) -> Counters:
        machine = self._machines.machine(entry.id)
        try:
            return machine.hypervisor(entry).counters(machine.home)
        except (NoAnswer, Refused):
            return Counters()


def _traffic(nics: list[dict[str, Any]], ports: dict[str, dict[str, Any]]) -> dict[str, int]:
    """The sum over a machine's NICs; None if one of them is not counted, or none is in a network of the host."""
    counted = [ports[nic["port"]] for nic in nics if nic["port"] in ports]
    if not nics or len(counted) < len(nics):
        return {}
    kinds = ("received_bytes", "sent_bytes", "received_packets", "sent_packets")
    summed = {f"network_{kind}": sum(port[kind] for port in counted) for kind in kinds}
    return summed | {"network_dropped_packets": sum(sum(port["dropped"].values()) for port in counted)}


def _sample(before: Look | None, now: Look, vcpus: int) -> dict[str, float]:
    sample = {"memory_mib": now.usage.resident_mib}
    if now.counters.guest_memory_mib is not None:
        sample["guest_memory_mib"] = now.counters.guest_memory_mib
    if before is None or before.process != now.process or before.at == now.at:
        return sample
    seconds = now.at - before.at
    busy = now.usage.cpu_seconds - before.usage.cpu_seconds
    sample["cpu_percent"] = round(100 * busy / seconds / max(1, vcpus), 2)
    for name, rate in RATES.items():
        first, last = getattr(before.counters, name), getattr(now.counters, name)
        if first is not None and last is not None and last >= first:  # a reset guest may count from nought again
            sample[rate] = round((last - first) / seconds, 2)
    return sample
