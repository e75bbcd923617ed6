"""One machine on this host: carries out its orders.

A machine is alive as long as its emulator is (`emulators.py`); the worker that started it does not matter. Everything
here runs under the machine's lock (`agent/orders.py`).
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from agent import faults, folders, jail, processes, system
from agent.entries import Entry
from agent.errors import YOU, NoAnswer, Refused, told
from agent.kinds import Sight
from agent.processes import Process
from agent.work import Work
from compute.agent import (
    disks,
    file_limit,
    freezing,
    guest_agent,
    host_keys,
    metadata,
    nics,
    passwords,
    plugging,
    preparation,
    snapshots,
    suspension,
)
from compute.agent.hypervisors.base import Control, Hypervisor, Power
from compute.agent.preparation import MachineTools
from compute.agent.records import Record, key
from compute.agent.silence import Silence
from network.agent import awaiting

log = structlog.get_logger()

VERBS = {
    "ensure_running": "running",
    "ensure_paused": "paused",
    "ensure_suspended": "suspended",
    "ensure_stopped": "stopped",
    "ensure_gone": "gone",
}
KEPT_FACTS = (  # of a machine that runs on
    *("accelerator", "started_at", "volumes", "nics", "cd"),
    *("password_reset", "password_set", "guest_agent"),
)
GRACE_SECONDS = 30.0
# A guest that is still booting ignores its power button, so it is pressed again.
SECONDS_BETWEEN_PRESSES = 4.0
MAX_SECONDS_TO_QUIT = 5.0
MAX_SECONDS_TO_DIE = 10.0

faults.declare(
    "machine.ensure_paused.before_pause",
    "machine.ensure_suspended.before_quit",
    "machine.ensure_stopped.before_quit",
    "machine.ensure_gone.before_kill",
    "machine.ensure_gone.after_kill",
    "machine.ensure_gone.after_erase",
    "machine.ensure_running.before_start",
    "machine.ensure_running.after_start",
    "machine.reboot.before_reset",
    "machine.reboot.after_reset",
    "machine.ensure_stopped.before_button",
    "machine.ensure_stopped.after_button",
)


class Machine:
    """The machine with this id. Raises ValueError when the id is not a UUID."""

    def __init__(self, machine_id: str, tools: MachineTools) -> None:
        self.id = machine_id
        self.key = key(machine_id)
        self.home = tools.homes.of(machine_id)
        self.tools = tools
        self.records = tools.records
        self.is_fresh = False  # started by this order, with all that its spec names
        self.silence = Silence(machine_id, tools.layers, self._is_stuck)

    @property
    def record(self) -> Record:
        return self.records.get(self.id)

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        """Carry out an order; also take or drop the snapshots that its spec names."""
        if self.record.interrupted_at:
            self.records.interrupt(self.id, interrupted=False)
        freezing.thaw_left(self.home)
        seen, facts = self.silence.outlast(lambda: self.run(verb, entry, work), work)
        if seen in ("running", "paused"):
            facts = facts | self._keep_plugged(entry, work)
        if seen in ("running", "paused", "suspended"):
            kept = partial(snapshots.keep_as_specified, self.home, entry, self.hypervisor(entry), self.record.uid)
            facts = facts | kept(pause=self.pause, outlast=lambda act: self.silence.outlast(act, work))
        return seen, facts

    def run(self, verb: str, entry: Entry, work: Work) -> Sight:
        """One of VERBS."""
        return getattr(self, f"_{verb}")(entry, work)  # type: ignore[no-any-return]

    def _keep_plugged(self, entry: Entry, work: Work) -> dict[str, Any]:
        """Let disks, NICs and CDs come and go as the spec says. Returns facts for the report: what is plugged in."""
        wanted: dict[str, Any] = {
            "volumes": disks.facts(entry.spec),
            "nics": [nic["port"] for nic in entry.spec["nics"]],
            "cd": disks.cd_in(entry.spec),
        }
        if self.is_fresh:
            return wanted
        nothing: dict[str, Any] = {"volumes": {}, "nics": [], "cd": None}
        there = {name: entry.facts.get(name, nothing[name]) for name in wanted}
        try:
            still = self.silence.outlast(lambda: self._plug(entry, there, wanted, work), work)
        except (Refused, NoAnswer, OSError) as problem:  # the machine itself is as well as before
            log.warning("not plugged in", machine=self.id, problem=str(problem))
            return {**there, **told(problem, of="devices_")}
        plugging.note_stillness(wanted["volumes"], there["volumes"], still)
        return wanted

    def _plug(self, entry: Entry, there: dict[str, Any], wanted: dict[str, Any], work: Work) -> set[int]:
        """The slots of the disks that were kept while the guest's file systems stood still. Raises Refused, NoAnswer or
        OSError. `there`: the facts until now; `wanted`: those that are to become true."""
        hypervisor, still = self.hypervisor(entry), set[int]()
        parts = disks.of(entry.spec, self.home, self.tools.layers, self._fetch(work))
        cds = disks.cdroms(entry.spec, self._fetch(work))
        if process := hypervisor.find(self.home):
            file_bytes = file_limit.needed(entry.spec, parts, self.home)
            file_limit.lift(process, file_bytes, self.tools.jail, self.record.uid)
        with hypervisor.control(self.home) as control:
            if control.slots is not None:
                plugging.keep_cd(control.slots, cds)
                with self._entered(entry, work):
                    still = plugging.keep_as_specified(
                        control.slots,
                        entry.spec,
                        parts,
                        hypervisor=hypervisor,
                        plugs=self.tools.plugs,
                        hold=lambda: self.held_still(entry, control),
                        cut_off=partial(self.tools.layers.cut_off, self.id),
                        before=there["volumes"],
                    )
            elif set(there["volumes"]) != set(wanted["volumes"]):
                raise Refused(f"{hypervisor.name} plugs nothing in or out while a machine runs", fix_by=YOU)
        if there["volumes"].keys() - wanted["volumes"].keys():
            self.tools.layers.end_servers(self.id, but_for=disks.images(parts))
        return still

    def held_still(self, entry: Entry, control: Control) -> AbstractContextManager[freezing.Moment]:
        """See `freezing.held_still`; a guest that is left frozen is asked again and again to go on. Raises Refused."""
        self.silence.refuse()  # what is done in this moment, QEMU begins when all its disks are at rest
        can_freeze = guest_agent.can(entry.facts, guest_agent.FREEZE)
        ask_soon = partial(self.tools.ask_guest_soon, self.id)
        return freezing.held_still(self.home, control, can_freeze=can_freeze, left=ask_soon)

    def _entered(self, entry: Entry, work: Work) -> AbstractContextManager[None]:
        """See `storage.agent.fences`: its volumes in shared folders are this host's while its emulator opens them."""
        return self.tools.layers.fences.entered(disks.shares(entry.spec.get("volumes") or ()), work)

    def _fetch(self, work: Work) -> disks.Fetch:
        return lambda file: self.tools.images.fetch(file, work)

    # Verbs

    def _ensure_running(self, entry: Entry, work: Work) -> Sight:
        hypervisor = self.hypervisor(entry)
        process = hypervisor.find(self.home)
        if process:
            sight = self._keep_running(hypervisor, process, entry, work)
            if sight:
                return sight
            self.end(hypervisor, process)
        return self._start(hypervisor, entry, work)

    def _ensure_paused(self, entry: Entry, work: Work) -> Sight:
        hypervisor, process = self._alive(entry, work)
        faults.reach("machine.ensure_paused.before_pause")
        with hypervisor.control(self.home) as control:
            if control.status().power == Power.RUNNING:
                self.pause(control)
        return "paused", self.facts(entry, process)

    def _ensure_suspended(self, entry: Entry, work: Work) -> Sight:
        if self.hypervisor(entry).find(self.home) is None and suspension.found(self.home):
            return "suspended", {"cause": "order"}
        hypervisor, process = self._alive(entry, work)
        with hypervisor.control(self.home) as control:
            if control.status().power == Power.RUNNING:
                self.pause(control)
            suspension.save(self.home, control, memory_mib=int(entry.spec["memory_mib"]), uid=self.record.uid)
        faults.reach("machine.ensure_suspended.before_quit")
        self.end(hypervisor, process)
        self.clear_runtime()
        return "suspended", {"cause": "order"}

    def _ensure_stopped(self, entry: Entry, work: Work) -> Sight:
        if transfer := entry.spec.get("arrival"):
            preparation.take_in(self.id, transfer, self.home, self.tools.homes)
        hypervisor = self.hypervisor(entry)
        process = hypervisor.find(self.home)
        if process:
            if not (entry.spec.get("stop") or {}).get("force"):
                self.ask_to_stop(hypervisor, process, _grace(entry), work)
            faults.reach("machine.ensure_stopped.before_quit")
            self.end(hypervisor, process)
        suspension.forget(self.home)
        self.clear_runtime()
        disks.grow_root(entry.spec, self.home)
        return "stopped", {"cause": "order"}

    def _ensure_gone(self, entry: Entry, work: Work) -> Sight:
        hypervisor = self.hypervisor(entry)
        process = hypervisor.find(self.home)
        faults.reach("machine.ensure_gone.before_kill")
        if process:
            self.kill(process)
        faults.reach("machine.ensure_gone.after_kill")
        self.clear_runtime()
        nics.unplug(entry.spec, self.tools.plugs)
        folders.remove(self.home.directory)
        faults.reach("machine.ensure_gone.after_erase")
        return "gone", {"cause": "order"}

    # Parts of verbs

    def pause(self, control: Control) -> None:
        """Pause its guest. Raises Refused, NoAnswer."""
        self.silence.refuse()
        control.pause()

    def _is_stuck(self) -> bool:
        """Whether its emulator lives and does not answer. Takes some seconds then."""
        for hypervisor in self.tools.hypervisors.values():
            if hypervisor.find(self.home):
                try:
                    with hypervisor.control(self.home) as control:
                        control.status()
                except NoAnswer:
                    return True
        return False

    def _alive(self, entry: Entry, work: Work) -> tuple[Hypervisor, Process]:
        """The machine's emulator with a running guest; starts it if necessary."""
        hypervisor = self.hypervisor(entry)
        process = hypervisor.find(self.home)
        if process:
            with hypervisor.control(self.home) as control:
                if control.status().power != Power.OFF:
                    preparation.close_runtime(self.home, self.record.uid)
                    return hypervisor, process
        self._ensure_running(entry, work)
        process = hypervisor.find(self.home)
        if process is None:
            raise NoAnswer("the emulator ended as soon as it had started")
        return hypervisor, process

    def _keep_running(self, hypervisor: Hypervisor, process: Process, entry: Entry, work: Work) -> Sight | None:
        """Adopt a running emulator; reboot or resume its guest as the spec says. None: it has to be started anew."""
        if self.record.process != process:
            self.records.started(self.id, process, boot_id=system.boot_id(), reboot_nonce=None)
        try:
            with hypervisor.control(self.home) as control:
                power, news = control.status().power, dict[str, Any]()
                preparation.close_runtime(self.home, self.record.uid)  # a killed worker may not have come to it
                if power != Power.OFF:
                    suspension.resume(self.home, control)
                    news = passwords.tell(self.home, control, entry)
                wish = entry.spec.get("reboot")
                if wish and news and wish["nonce"] == news["password_set"]:
                    self.records.rebooted(self.id, wish["nonce"])  # it was for this alone
                if wish and wish["nonce"] != self.record.reboot_nonce:
                    if not news and passwords.untold(entry):
                        if not wish.get("hard"):
                            self._press_until_off(control, process, _grace(entry), work)
                        return None  # only a new emulator has the new seed
                    self._reboot(control, process, wish, entry, work)
                    return "running", self.facts(entry, process) | news | {"started_at": _now()}
        except NoAnswer:
            if process.alive:
                raise
            return None
        return None if power == Power.OFF else ("running", self.facts(entry, process) | news)

    def _start(self, hypervisor: Hypervisor, entry: Entry, work: Work) -> Sight:
        spec = entry.spec
        if folders.status(self.home.begun_with(from_volume=disks.boots_from_volume(spec))) is None:
            preparation.begin(entry, self.home, self.tools.homes)
        fetch = self._fetch(work)
        for file in spec["image"]["files"]:
            fetch(file)  # takes long the first time: not in a slot
        awaiting.until_made(self.tools.ledger, nics.awaited(spec), work)
        with self._boot_slot(work), self._entered(entry, work), ExitStack() as undo:
            boot = preparation.prepare(
                entry, self.home, fetch=fetch, hypervisor=hypervisor, tools=self.tools, undo=undo
            )
            saved = suspension.found(self.home)
            boot = replace(boot, saved=saved, is_clone=bool(saved and folders.status(saved / suspension.CLONE)))
            work.check()
            faults.reach("machine.ensure_running.before_start")
            metadata.introduce(spec, self.tools.plugs)
            with (
                disks.opened(boot.disks) as with_files,
                nics.plugged(nics.of(spec), self.tools.plugs, headers=hypervisor.takes_headers) as with_taps,
            ):
                process = hypervisor.start(replace(boot, disks=with_files, nics=with_taps))
            undo.callback(self.kill, process)
            nonce = (spec.get("reboot") or {}).get("nonce")
            self.records.started(self.id, process, boot_id=system.boot_id(), reboot_nonce=nonce)
            faults.reach("machine.ensure_running.after_start")
            try:
                with hypervisor.control(self.home) as control:
                    preparation.close_runtime(self.home, boot.confinement.uid)
                    plugging.limit(control, boot.disks)
                    suspension.resume(self.home, control)
            except NoAnswer as error:
                words = processes.tail(self.home.emulator_log, 800) if not process.alive else str(error)
                raise Refused(f"the emulator did not start: {words}") from error
            undo.pop_all()
        self.is_fresh = True
        facts: dict[str, Any] = {"accelerator": hypervisor.accelerator(spec), "started_at": _now()}
        if not boot.saved:  # what goes on reads no seed
            facts["password_reset"] = passwords.in_seed(spec)
        return "running", facts | self._lasting_facts()

    def _reboot(self, control: Control, process: Process, wish: dict[str, Any], entry: Entry, work: Work) -> None:
        self.silence.refuse()
        faults.reach("machine.reboot.before_reset")
        if not wish.get("hard"):
            self._press_until_off(control, process, _grace(entry), work)
            self.silence.refuse()
        control.reset()
        control.status()  # it may wait for a storage only after it has said that it resets
        freezing.forget(self.home)
        faults.reach("machine.reboot.after_reset")
        self.records.rebooted(self.id, wish["nonce"])

    def ask_to_stop(self, hypervisor: Hypervisor, process: Process, grace: float, work: Work) -> None:
        faults.reach("machine.ensure_stopped.before_button")
        try:
            with hypervisor.control(self.home) as control:
                self._press_until_off(control, process, grace, work)
        except NoAnswer as error:
            log.warning("no answer to the power button", machine=self.id, problem=str(error))
        faults.reach("machine.ensure_stopped.after_button")

    def _press_until_off(self, control: Control, process: Process, grace: float, work: Work) -> None:
        """Press the power button until the guest is off, its emulator has ended, or the grace period is over."""
        deadline = time.monotonic() + grace
        next_press = 0.0
        status = control.status()
        if status.power == Power.PAUSED:
            suspension.resume(self.home, control)
        while status.power != Power.OFF and process.alive and time.monotonic() < deadline:
            if time.monotonic() >= next_press:
                control.press_power_button()
                next_press = time.monotonic() + SECONDS_BETWEEN_PRESSES
            work.sleep(0.05)
            status = control.status()

    def end(self, hypervisor: Hypervisor, process: Process) -> None:
        """End an emulator: ask it to quit, so that it flushes its disks, then kill it. Raises Refused."""
        try:
            with hypervisor.control(self.home) as control:
                control.quit()
        except NoAnswer as error:
            log.warning("no answer to quit", machine=self.id, problem=str(error))
        if not process.wait(MAX_SECONDS_TO_QUIT):
            self.kill(process)

    def kill(self, process: Process) -> None:
        process.kill()
        if not process.wait(MAX_SECONDS_TO_DIE):
            raise Refused(f"the emulator, process {process.pid}, does not die")

    def clear_runtime(self) -> None:
        """Remove the runtime files of an emulator that has ended."""
        jail.kill_all(self.tools.jail.cgroup, self.id)
        self.tools.layers.end_servers(self.id)
        with suppress(OSError):  # leftovers are removed before the next start
            folders.remove(self.home.runtime)
        jail.remove_cgroups(self.tools.jail.cgroup, self.id)
        if self.record.process:
            self.records.ended(self.id)

    def facts(self, entry: Entry, process: Process) -> dict[str, Any]:
        """Facts about a running machine: the recorded ones if they are of this process, otherwise observed ones."""
        if self.record.process == process and entry.seen in ("running", "paused") and entry.facts.get("started_at"):
            facts = {key: entry.facts[key] for key in KEPT_FACTS if key in entry.facts}
        else:
            accelerator = self.hypervisor(entry).accelerator(entry.spec)
            facts = {"accelerator": accelerator, "started_at": _rfc3339(process.started_at)}
        return facts | self._lasting_facts()

    def _lasting_facts(self) -> dict[str, Any]:
        """Those that are as they are as long as its emulator runs."""
        return host_keys.fact(self.home.host_key) | guest_agent.fact(self.home)

    def hypervisor(self, entry: Entry) -> Hypervisor:
        hypervisors = self.tools.hypervisors
        name = entry.spec.get("hypervisor") or next(iter(hypervisors), "")
        if name not in hypervisors:
            raise Refused(f"the hypervisor {name or 'of this machine'} does not work on this host")
        return hypervisors[name]

    @contextmanager
    def _boot_slot(self, work: Work) -> Iterator[None]:
        """Limit how many machines start at once to the number of processors: more would only slow each other down."""
        while not self.tools.boot_slots.acquire(timeout=0.2):
            work.check()
        try:
            yield
        finally:
            self.tools.boot_slots.release()


def _grace(entry: Entry) -> float:
    """How many seconds a guest has to switch itself off."""
    return float((entry.spec.get("stop") or {}).get("grace_seconds", GRACE_SECONDS))


def _now() -> str:
    return _rfc3339(time.time())


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
