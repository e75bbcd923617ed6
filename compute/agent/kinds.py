"""The kind `instance`: a tenant's virtual machine, which on its host is a machine with an emulator."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from agent import folders, jail
from agent.entries import Entry
from agent.errors import Refused, Unreachable
from agent.host import Host
from agent.kinds import Kind, Sight, Tools
from agent.work import Work
from compute.agent import captures, file_limit, hypervisors, preparation, upkeep
from compute.agent.console_log import ConsoleLogs
from compute.agent.fencing import Fencing
from compute.agent.guests import Guests
from compute.agent.homes import Home, Homes
from compute.agent.hypervisors.base import Hypervisor
from compute.agent.machine import VERBS, Machine
from compute.agent.nics import Plugs
from compute.agent.preparation import MachineTools
from compute.agent.records import TYPE, Records
from compute.agent.samples import SECONDS_BETWEEN_SAMPLES, Samples
from compute.agent.watch import Watch
from network.agent.client import NetworkProcess
from storage import uefi
from storage.agent.captures import Chain, Hear
from storage.agent.image_cache import ImageCache
from storage.agent.layers import Layers

log = structlog.get_logger()

SECONDS_BETWEEN_LOGS = 0.5


def kinds(tools: Tools) -> list[Kind]:
    return [Machines(tools, hypervisors.installed(tools.paths, tools.jail))]


class Machines(Kind):
    """All machines of a host. `hypervisors`: those that work on it, by name; `plugs`: the host's network process if not
    said. Raises OSError."""

    type = TYPE
    verbs = VERBS

    def __init__(self, tools: Tools, hypervisors: dict[str, Hypervisor], plugs: Plugs | None = None) -> None:
        self.homes = Homes(tools.paths)
        self.homes.make()
        self.hypervisors = hypervisors
        self.tools = MachineTools(
            homes=self.homes,
            ledger=tools.ledger,
            records=Records(tools.ledger),
            images=ImageCache(tools.paths, tools.control_plane, tools.is_file_used, tools.problems),
            layers=Layers(tools.paths, tools.jail),
            hypervisors=hypervisors,
            plugs=plugs or NetworkProcess(tools.paths),
            jail=tools.jail,
            ask_guest_soon=self.ask_guest_soon,
        )
        self._common = tools
        self._watch: Watch | None = None
        self._guests: Guests | None = None

    def machine(self, machine_id: str) -> Machine:
        return Machine(machine_id, self.tools)

    # For images and backups of their disks

    def copy_disk(
        self, resource_id: str, target: Path, work: Work, hear: Hear, *, volume: str | None = None
    ) -> tuple[Chain, str]:
        return captures.copy_disk(self._common, self.machine(resource_id), target, work, hear, volume=volume)

    def end_copy(self, resource_id: str) -> None:
        captures.end_copy(self._common, self.machine(resource_id))

    def read_uefi(self, resource_id: str) -> bytes | None:
        path = self.homes.of(resource_id).variables
        return folders.read_file(path, uefi.MAX_BYTES) if folders.status(path) else None

    # For moves to other hosts

    def find_file(self, resource_id: str, name: str) -> Path | None:
        """See storage.agent.transfers.HasFiles: its own disk and its host key."""
        process = self.tools.records.get(resource_id).process
        if process is not None and process.alive:
            raise Refused("the machine runs: its disk cannot be sent")
        return preparation.find_file(name, self.homes.of(resource_id))

    # Orders and what happens without one

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        return self.machine(entry.id).obey(verb, entry, work)

    def look(self, entry: Entry, ended: str) -> Sight | None:
        return upkeep.look(self.machine(entry.id), entry, ended)

    def is_watched(self, entry: Entry) -> bool:
        process = self.tools.records.get(entry.id).process
        return entry.seen == "running" and process is not None and process.alive

    def clear_up(self) -> None:
        """Remove cgroups that were still in use when their machines ended."""
        for machine_id, record in self.tools.records.all().items():
            if record.process and record.process.alive:
                continue
            with contextlib.suppress(BlockingIOError), self._common.lock(machine_id, wait=False):
                machine = self.machine(machine_id)
                entry = self._common.ledger.get(machine.key)
                if entry and entry.order is None and machine.record.process is None:
                    jail.remove_cgroups(self.tools.jail.cgroup, machine_id, patience=0)

    def tidy(self) -> None:
        self.tools.images.let_go()
        self.tools.records.forget()

    def quarantine(self, entry: Entry) -> Sight | None:
        return upkeep.set_paused(self.machine(entry.id), entry, paused=True)

    def release(self, entry: Entry) -> Sight | None:
        return upkeep.set_paused(self.machine(entry.id), entry, paused=False) if entry.wanted == "running" else None

    def strangers(self) -> Iterator[str]:
        for name in folders.names(self.homes.directory):
            with contextlib.suppress(ValueError):
                yield str(uuid.UUID(name))

    def adopt(self, resource_id: str) -> str:
        disks = [disk.st_uid for disk in _disks(self.homes.of(resource_id))]
        self.tools.records.adopt(resource_id, max(disks, default=None) or None)
        return "stopped"

    # The host goes down and comes back

    def interrupt(self, entry: Entry, grace: float) -> Sight | None:
        return upkeep.interrupt(self.machine(entry.id), entry, grace)

    def is_interrupted(self, entry: Entry) -> bool:
        return entry.wanted == "running" and self.tools.records.get(entry.id).interrupted_at != 0

    def needs_only_host(self, entry: Entry) -> bool:
        """All of its disks are on this host."""
        return True

    def revive(self, entry: Entry, work: Work) -> Sight:
        return self.machine(entry.id).run("ensure_running", entry, work)

    def stand_down(self, entry: Entry) -> None:
        self.tools.records.interrupt(entry.id, interrupted=False)

    def lose(self, entry: Entry) -> None:
        """Kill its emulator, which may be one of two that write the same disk, and never start it by itself."""
        machine = self.machine(entry.id)
        self.stand_down(entry)
        if process := machine.hypervisor(entry).find(machine.home):
            machine.kill(process)

    # What the host says of itself

    def capabilities(self) -> dict[str, Any]:
        probed = {name: hypervisor.probe() for name, hypervisor in self.hypervisors.items()}
        found = {name: hypervisor for name, hypervisor in probed.items() if hypervisor}
        architectures = {name for hypervisor in found.values() for name in hypervisor["architectures"]}
        return {"architectures": sorted(architectures), "hypervisors": found, "resizes": True}

    def problem(self) -> str:
        return "" if self.hypervisors else "no hypervisor works on this host: is QEMU installed?"

    def disk_bytes(self) -> int:
        disks = [disk for resource_id in self.strangers() for disk in _disks(self.homes.of(resource_id))]
        return sum(disk.st_blocks * 512 for disk in disks)

    def uses_file(self, entry: Entry, sha256: str) -> bool:
        """By its spec, which the ledger has before a file is fetched. A stranger without a spec may use any file."""
        if not entry.spec:
            return True
        bases = [volume["base_image"] for volume in entry.spec.get("volumes") or () if volume["base_image"]]
        return any(file["sha256"] == sha256 for file in (*entry.spec["image"]["files"], *bases))

    def describe(self, entry: Entry) -> str:
        process = self.tools.records.get(entry.id).process
        pid = process.pid if process and process.alive else "-"
        return f"pid {pid:<8} {entry.spec.get('name', '?')}"

    # Beside the clock

    def start(self, host: Host) -> None:
        self._guests = Guests(host, self, self._common)
        self._guests.start()
        self._watch = Watch(host, self)
        self._watch.start()
        fencing = Fencing(host, self)
        host.problems_of.append(fencing.problems)
        fencing.start()
        for task in (self._measure, self._push_logs, self._probe_accelerators):
            threading.Thread(target=task, args=(host,), name=task.__name__.strip("_"), daemon=True).start()

    def wake(self) -> None:
        if self._watch:
            self._watch.wake()

    def ask_guest_soon(self, machine_id: str) -> None:
        """Something has happened to a machine: does an agent answer in its guest, and is it left frozen?"""
        if self._guests:
            self._guests.ask_soon(machine_id)

    def _measure(self, host: Host) -> None:
        """Measure what machines use, at regular intervals. In its own thread, because it waits for emulators."""
        samples = Samples(self, host.ledger, host.control_plane)
        due = time.monotonic()
        while not host.stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + SECONDS_BETWEEN_SAMPLES, time.monotonic())
            try:
                samples.take()
                samples.tell()
            except Unreachable:
                pass  # the heartbeat reports it; samples are kept for a while
            except Exception:
                log.exception("samples were not taken")

    def _push_logs(self, host: Host) -> None:
        logs = ConsoleLogs(self.homes, host.ledger, host.control_plane, self._lift_file_limit)
        while not host.stopping.wait(SECONDS_BETWEEN_LOGS):
            try:
                logs.push_changed()
            except Exception:
                log.exception("console logs were not pushed")

    def _lift_file_limit(self, machine_id: str, freed: int) -> None:
        record = self.tools.records.get(machine_id)
        if record.process:
            file_limit.lift_for_log(record.process, freed, self.tools.jail, record.uid)

    def _probe_accelerators(self, host: Host) -> None:
        """Runs once the first machine is up: a probe may take seconds, and must not delay the first start."""
        while not any(entry.seen == "running" for entry in host.ledger.entries(TYPE)):
            if host.stopping.wait(1.0):
                return
        if any([hypervisor.probe_accelerators() for hypervisor in self.hypervisors.values()]):
            host.changed.set()


def _disks(home: Home) -> list[os.stat_result]:
    """What is known of the files of a machine's disks."""
    names = [name for name in folders.names(home.directory) if name.startswith("disk")]
    return [disk for name in names if (disk := folders.status(home.directory / name))]
