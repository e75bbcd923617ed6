"""What the machines of this host use: looked at every ten seconds, each look told in one message.

Processor and memory are read from /proc, disks are asked of the emulator, one short question each, and traffic of the
host's network process, one question for all. A rate needs two looks at the same process, and what could not be seen is
left out: a gap is true, a zero would not be. Single disks and NICs are told of where a machine has several.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    devices: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # disks and NICs by their ids, like Counters


class Samples:
    """Measures all machines of a host; keeps the last sample of each, and the samples that are not sent yet."""

    def __init__(self, machines: "Machines", ledger: Ledger, control_plane: ControlPlane) -> None:
        self._machines = machines
        self._ledger = ledger
        self._control_plane = control_plane
        self._last: dict[str, Look] = {}
        self._untold: deque[tuple[float, dict[str, list[dict[str, Any]]]]] = deque(maxlen=MAX_ROUNDS_KEPT)

    def take(self) -> list[dict[str, Any]]:
        """Measure every running machine: what it used since the last sample."""
        looks = {}
        samples: list[dict[str, Any]] = []
        devices: list[dict[str, Any]] = []
        ports = self._ports()
        for entry in self._ledger.entries(TYPE):
            look = self._look(entry, ports)
            if look is None:
                continue
            looks[entry.id] = look
            before = self._last.get(entry.id)
            samples.append({"id": entry.id, **_sample(before, look, int(entry.spec["vcpus"]))})
            devices.extend({"id": entry.id, "device": device, **rates} for device, rates in _of_devices(before, look))
        self._last = looks
        if samples:
            self._untold.append((time.monotonic(), {"samples": samples, "devices": devices}))
        return samples

    def tell(self) -> None:
        """Send the samples with their ages, because hosts' clocks are not trusted. Raises Unreachable.

        One message for each look keeps them far below the size that is taken, also after a while without a line.
        """
        while self._untold:
            at, measured = self._untold[0]
            age = round(time.monotonic() - at, 3)
            told = {kind: [{**one, "age": age} for one in found] for kind, found in measured.items()}
            self._control_plane.tell("POST", "/agent/v1/samples", json=told, ignored=(400, 404, 413))
            self._untold.popleft()

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
        nics = entry.spec.get("nics", [])
        counters = replace(self._counters(entry), **_traffic(nics, ports))
        return Look(process, time.monotonic(), usage, counters, {**_disks(entry, counters), **_nics(nics, ports)})

    def _counters(self, entry: Entry) -> Counters:
        machine = self._machines.machine(entry.id)
        try:
            return machine.hypervisor(entry).counters(machine.home)
        except (NoAnswer, Refused):
            return Counters()


def _traffic(nics: list[dict[str, Any]], ports: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The sum over a machine's NICs; none if one of them is not counted, or none is in a network of the host."""
    counted = [_of_port(ports[nic["port"]]) for nic in nics if nic["port"] in ports]
    if not nics or len(counted) < len(nics):
        return {}
    return {name: sum(one[name] for one in counted) for name in counted[0]}


def _of_port(port: dict[str, Any]) -> dict[str, int]:
    kinds = ("received_bytes", "sent_bytes", "received_packets", "sent_packets")
    counted = {f"network_{kind}": int(port[kind]) for kind in kinds}
    return counted | {"network_dropped_packets": sum(port["dropped"].values())}


def _nics(nics: list[dict[str, Any]], ports: dict[str, dict[str, Any]]) -> dict[str, Mapping[str, int]]:
    """Each of several, by the id of its port."""
    several = nics if len(nics) > 1 else []
    return {nic["port"]: _of_port(ports[nic["port"]]) for nic in several if nic["port"] in ports}


def _disks(entry: Entry, counters: Counters) -> dict[str, Mapping[str, int]]:
    """Each of several, by the id of its volume; the machine's own by that of the machine."""
    volumes = {int(volume["slot"]): str(volume["id"]) for volume in entry.spec.get("volumes") or ()}
    known = {0: entry.id, **volumes}
    several = counters.disks if len(counters.disks) > 1 else {}
    return {known[slot]: counted for slot, counted in several.items() if slot in known}


def _sample(before: Look | None, now: Look, vcpus: int) -> dict[str, float]:
    sample = {"memory_mib": now.usage.resident_mib}
    if now.counters.guest_memory_mib is not None:
        sample["guest_memory_mib"] = now.counters.guest_memory_mib
    if before is None or not _follows(before, now):
        return sample
    seconds = now.at - before.at
    busy = now.usage.cpu_seconds - before.usage.cpu_seconds
    sample["cpu_percent"] = round(100 * busy / seconds / max(1, vcpus), 2)
    return sample | _rates(vars(before.counters), vars(now.counters), seconds)


def _of_devices(before: Look | None, now: Look) -> list[tuple[str, dict[str, float]]]:
    """What passed each disk and each NIC that both looks have seen."""
    if before is None or not _follows(before, now):
        return []
    both = [device for device in now.devices if device in before.devices]
    seconds = now.at - before.at
    return [(device, _rates(before.devices[device], now.devices[device], seconds)) for device in both]


def _follows(before: Look, now: Look) -> bool:
    return before.process == now.process and before.at != now.at


def _rates(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> dict[str, float]:
    rates = {}
    for name, rate in RATES.items():
        first, last = before.get(name), now.get(name)
        if first is not None and last is not None and last >= first:  # a reset guest may count from nought again
            rates[rate] = round((last - first) / seconds, 2)
    return rates
