"""What happens to a machine without an order: its guest switches off, its emulator dies, its host reboots, nobody owns
it.

The control plane decides what follows; here it is seen, written down and reported.
"""

import contextlib
import shutil
import time
from typing import Any

from agent import faults, jail, processes, system
from agent.ledger import Entry
from agent.processes import Process
from agent.work import Work
from compute.agent.hypervisors.base import Power, Status
from compute.agent.machine import Machine

ALIVE = ("running", "paused")
ROOM_TO_RESUME = 1 << 30
SECONDS_TO_BE_INTERRUPTED = 120
WITH_HOST = {"cause": "reboot", "problem": "it was switched off with its host"}
BY_GUEST = {"cause": "guest", "problem": "the guest switched itself off"}
UNOWNED = "quarantined: the control plane has no row for this machine"


def look(machine: Machine, ended: str = "") -> bool:
    """See how a machine is and write down what changed by itself; whether anything did.

    `ended`: how its emulator ended, if that is known. Raises BlockingIOError while an order is being obeyed, NoAnswer
    when its emulator does not answer, Refused when its hypervisor is not here.
    """
    with machine.lock(wait=False):
        entry = machine.ledger.get(machine.id)
        if entry is None or entry.order is not None or entry.seen == "gone":
            return False
        sight = _sight(machine, entry, ended)
        if sight is None or (sight[0] == entry.seen and sight[1].get("problem") == entry.facts.get("problem")):
            return False
        machine.ledger.saw(machine.id, *sight)
        return True


def _sight(machine: Machine, entry: Entry, ended: str) -> tuple[str, dict[str, Any]] | None:
    """What is seen now, with facts; None when there is nothing new to say."""
    hypervisor = machine.hypervisor(entry)
    process = hypervisor.find(machine.home)
    if process is None:
        return _why_dead(machine, entry, ended) if entry.seen in ALIVE else None
    if entry.process != process:
        machine.ledger.started(machine.id, process, boot_id=system.boot_id(), reboot_nonce=None)
    if 0 < entry.interrupted_at < time.time() - SECONDS_TO_BE_INTERRUPTED:
        machine.ledger.interrupt(machine.id, interrupted=False)  # whoever wanted to switch it off did not get that far
    with hypervisor.control(machine.home) as control:
        status = control.status()
        if status.curable and shutil.disk_usage(machine.home.directory).free > ROOM_TO_RESUME and not entry.quarantined:
            control.resume()
            status = control.status()
    if status.power == Power.OFF:
        machine.end(hypervisor, process)
        machine.clear_runtime()
        return ("stopped", WITH_HOST) if entry.interrupted_at else ("stopped", BY_GUEST)
    return status.power.value, _facts(machine, entry, process, status)


def _facts(machine: Machine, entry: Entry, process: Process, status: Status) -> dict[str, Any]:
    facts = machine.facts(entry, process)
    problem = UNOWNED if entry.quarantined else status.problem
    return facts | {"problem": problem} if problem else facts


def _why_dead(machine: Machine, entry: Entry, ended: str) -> tuple[str, dict[str, Any]]:
    """A machine that should be alive is not: with its host, or by itself."""
    killed_for_memory = jail.out_of_memory(machine.tools.jail.cgroup, machine.id)
    machine.clear_runtime()
    if entry.interrupted_at or entry.boot_id != system.boot_id():
        machine.ledger.interrupt(machine.id)
        return "stopped", WITH_HOST
    words = f"the emulator {ended or 'ended'} unexpectedly"
    if killed_for_memory:
        words += ", for want of memory"
    last = processes.tail(machine.home.emulator_log, 600)
    facts = {"cause": "crash", "problem": f"{words}: {last}" if last else words}
    return "stopped", facts | {"exit": ended} if ended else facts


def clear(machine: Machine) -> None:
    """Remove what a dead machine left in the kernel because its processes were not buried yet."""
    with contextlib.suppress(BlockingIOError), machine.lock(wait=False):
        entry = machine.ledger.get(machine.id)
        if entry and entry.process is None and entry.order is None:
            jail.remove_cgroups(machine.tools.jail.cgroup, machine.id, patience=0)


def quarantine(machine: Machine) -> None:
    """Stop a machine that no row owns from doing anything; keep all that it is. Raises as `look` does."""
    with machine.lock(wait=False):
        entry = machine.ledger.get(machine.id)
        if entry is None or entry.seen == "gone" or entry.quarantined:
            return
        machine.ledger.quarantine(machine.id)
        _set_paused(machine, entry, paused=True)


def release(machine: Machine) -> None:
    """A row owns the machine after all. Raises as `look` does."""
    with machine.lock(wait=False):
        entry = machine.ledger.get(machine.id)
        if entry is None or not entry.quarantined:
            return
        machine.ledger.quarantine(machine.id, quarantined=False)
        if entry.wanted == "running":
            _set_paused(machine, entry, paused=False)


def _set_paused(machine: Machine, entry: Entry, *, paused: bool) -> None:
    hypervisor = machine.hypervisor(entry)
    process = hypervisor.find(machine.home)
    if process is None:
        return
    if entry.process != process:
        machine.ledger.started(machine.id, process, boot_id=system.boot_id(), reboot_nonce=None)
    with hypervisor.control(machine.home) as control:
        if paused:
            control.pause()
        elif control.status().power == Power.PAUSED:
            control.resume()
    facts = machine.facts(entry, process)
    machine.ledger.saw(machine.id, "paused" if paused else "running", facts | {"problem": UNOWNED} if paused else facts)


def interrupt(machine: Machine, grace: float) -> bool:
    """Switch a machine off because its host goes down: what is wanted of it stays as it is. Whether it was running."""
    work = Work()
    with machine.lock():
        entry = machine.ledger.get(machine.id)
        if entry is None:
            return False
        hypervisor = machine.hypervisor(entry)
        process = hypervisor.find(machine.home)
        if process is None:
            return False
        machine.ledger.interrupt(machine.id)
        machine.ask_to_stop(hypervisor, process, grace, work)
        faults.reach("upkeep.interrupt.before_quit")
        machine.end(hypervisor, process)
        faults.reach("upkeep.interrupt.after_quit")
        machine.clear_runtime()
        machine.ledger.saw(machine.id, "stopped", WITH_HOST)
        return True


def revive(machine: Machine, work: Work) -> None:
    """Start again a machine that was interrupted with its host, by what the ledger says."""
    with machine.lock():
        entry = machine.ledger.get(machine.id)
        if entry and entry.interrupted_at and entry.wanted == "running" and entry.order is None:
            seen, facts = machine.carefully("ensure_running", entry, work)
            faults.reach("upkeep.revive.after_start")
            machine.ledger.interrupt(machine.id, interrupted=False)
            machine.ledger.saw(machine.id, seen, facts)
