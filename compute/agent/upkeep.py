"""What happens to a machine without an order: its guest powers off, its emulator dies, its host reboots, it is unowned.

The control plane decides what follows. The machine is locked while this runs (`agent/host.py`).
"""

import shutil
import time
from typing import Any

from agent import faults, jail, processes, system
from agent.entries import Entry
from agent.errors import NoAnswer
from agent.kinds import Sight
from agent.processes import Process
from agent.system import MIN_FREE_BYTES
from agent.work import Work
from compute.agent import freezing, silence
from compute.agent.hypervisors.base import Hypervisor, Power, Status
from compute.agent.machine import Machine
from compute.agent.records import Record

ALIVE = ("running", "paused")
MIN_FREE_TO_RESUME = MIN_FREE_BYTES
MAX_SECONDS_TO_INTERRUPT = 120
WITH_HOST = {"cause": "reboot", "problem": "it was switched off with its host"}
BY_GUEST = {"cause": "guest", "problem": "the guest switched itself off"}
OF_ORDERS = ("snapshot", "devices_")  # what facts begin with that stay as the last order found them
UNOWNED = "quarantined: the control plane has no row for this machine"

faults.declare("upkeep.interrupt.before_quit", "upkeep.interrupt.after_quit")


def look(machine: Machine, entry: Entry, ended: str) -> Sight | None:
    """What is seen now, with facts; None when there is nothing new to say. `ended`: how its emulator ended, if known.

    Raises NoAnswer when its emulator does not answer, Refused when its hypervisor is not here.
    """
    hypervisor = machine.hypervisor(entry)
    process = hypervisor.find(machine.home)
    record = machine.record
    if process is None:
        return _why_dead(machine, record, ended) if entry.seen in ALIVE else None
    if record.process != process:
        machine.records.started(machine.id, process, boot_id=system.boot_id(), reboot_nonce=None)
    if 0 < record.interrupted_at < time.time() - MAX_SECONDS_TO_INTERRUPT:
        machine.records.interrupt(machine.id, interrupted=False)  # it was not switched off after all
    try:
        status = _status(machine, hypervisor, entry)
    except NoAnswer:
        if entry.seen not in ALIVE or not machine.silence.is_there():
            raise
        status = Status(Power(entry.seen), silence.WAITS)
    if status.power == Power.OFF:
        machine.end(hypervisor, process)
        machine.clear_runtime()
        return ("stopped", WITH_HOST) if record.interrupted_at else ("stopped", BY_GUEST)
    return status.power.value, _facts(machine, entry, process, status)


def _status(machine: Machine, hypervisor: Hypervisor, entry: Entry) -> Status:
    """How it is, after what can be done without an order."""
    with hypervisor.control(machine.home) as control:
        status = control.status()
        has_room = shutil.disk_usage(machine.home.directory).free > MIN_FREE_TO_RESUME
        if entry.quarantined and status.power == Power.RUNNING:
            machine.pause(control)  # it was refused before, or the guest was resumed
        elif status.curable and has_room and not entry.quarantined:
            control.resume()
        else:
            return status
        return control.status()


def _facts(machine: Machine, entry: Entry, process: Process, status: Status) -> dict[str, Any]:
    facts = {name: fact for name, fact in entry.facts.items() if name.startswith(OF_ORDERS)}
    facts |= machine.facts(entry, process)
    problem = UNOWNED if entry.quarantined else status.problem
    if not problem and freezing.is_noted(machine.home):
        problem = freezing.PROBLEM
    if not problem and machine.silence.has_cut_off(entry):
        problem = silence.CUT_OFF
    return facts | {"problem": problem} if problem else facts


def _why_dead(machine: Machine, record: Record, ended: str) -> Sight:
    """A machine that should be alive is not: with its host, or by itself."""
    killed_for_memory = jail.out_of_memory(machine.tools.jail.cgroup, machine.id)
    machine.clear_runtime()
    if record.interrupted_at or record.boot_id != system.boot_id():
        machine.records.interrupt(machine.id)
        return "stopped", WITH_HOST
    words = f"the emulator {ended or 'ended'} unexpectedly"
    if killed_for_memory:
        words += ", for want of memory"
    last = processes.tail(machine.home.emulator_log, 600)
    facts = {"cause": "crash", "problem": f"{words}: {last}" if last else words}
    return "stopped", facts | {"exit": ended} if ended else facts


def set_paused(machine: Machine, entry: Entry, *, paused: bool) -> Sight | None:
    """Pause a machine that no row owns, or let it go on; None when it is not alive. Raises as `look` does."""
    hypervisor = machine.hypervisor(entry)
    process = hypervisor.find(machine.home)
    if process is None:
        return None
    if machine.record.process != process:
        machine.records.started(machine.id, process, boot_id=system.boot_id(), reboot_nonce=None)
    with hypervisor.control(machine.home) as control:
        if paused:
            machine.pause(control)
        elif control.status().power == Power.PAUSED:
            control.resume()
    facts = machine.facts(entry, process)
    return ("paused", facts | {"problem": UNOWNED}) if paused else ("running", facts)


def interrupt(machine: Machine, entry: Entry, grace: float) -> Sight | None:
    """Switch a machine off because its host goes down; its wanted power stays. None: it was not running."""
    hypervisor = machine.hypervisor(entry)
    process = hypervisor.find(machine.home)
    if process is None:
        return None
    machine.records.interrupt(machine.id)
    freezing.thaw_left(machine.home)
    machine.ask_to_stop(hypervisor, process, grace, Work())
    faults.reach("upkeep.interrupt.before_quit")
    machine.end(hypervisor, process)
    faults.reach("upkeep.interrupt.after_quit")
    machine.clear_runtime()
    return "stopped", WITH_HOST
