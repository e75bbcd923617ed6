"""A disk of a machine, copied as of one moment for an image or a backup: its guest goes on meanwhile.

A running emulator copies by itself: what the guest is about to overwrite is copied first. The copy has what the
machine's own layer has, and lies on what that lies on. The machine is held only while the copy begins, is looked at
and ends, so that its orders wait for no copy.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from agent import faults, folders
from agent.durability import sync_file
from agent.entries import Entry
from agent.errors import YOU, NoAnswer, Refused
from agent.kinds import Tools
from agent.system import MIN_FREE_BYTES
from agent.work import Work
from compute.agent import disks, suspension
from compute.agent.disks import Disk, Layer
from compute.agent.hypervisors.base import Hypervisor
from compute.agent.machine import Machine
from storage.agent import qemu_img
from storage.agent.captures import Chain, Hear
from storage.agent.conversion import check_room

log = structlog.get_logger()

MAX_TRIES = 3  # if the machine is started or stopped meanwhile
SECONDS_BETWEEN_LOOKS = 0.5
CRASH, FILESYSTEM = "crash", "filesystem"

faults.declare("capture.after_begin", "capture.before_end")


@dataclass(frozen=True)
class Copy:
    """One under way: into which file, for whom, and who hears how far it is."""

    target: Path
    work: Work
    hear: Hear


def copy_disk(
    tools: Tools, machine: Machine, target: Path, work: Work, hear: Hear, *, volume: str | None = None
) -> tuple[Chain, str]:
    """See storage.agent.captures.HasDisks."""
    for _ in range(MAX_TRIES):
        work.check()
        with tools.lock(machine.id):
            entry = tools.ledger.get(machine.key)
            if entry is None or not entry.spec.get("image"):
                raise Refused("the machine is not on this host any more")
            slot = _slot(entry.spec, volume)
            all_disks = disks.of(entry.spec, machine.home, machine.tools.layers, _fetch(machine, work))
            disk = next(one for one in all_disks if one.slot == slot)
            if disk.layers[-1].remote:
                raise Refused("a volume that is not on the host of its machine cannot be copied yet", fix_by=YOU)
            if folders.status(disk.layers[-1].path) is None:
                raise Refused("the machine has no disk yet: it has not been started", fix_by=YOU)
            below: Chain = [(layer.path, layer.format) for layer in disk.layers[:-1]]
            active = disk.layers[-1]
            target.unlink(missing_ok=True)
            hypervisor = machine.hypervisor(entry)
            if hypervisor.find(machine.home) is None:
                folders.copy_file(active.path, target, min_free=MIN_FREE_BYTES)
                sync_file(target)
                worth = CRASH if suspension.found(machine.home) else FILESYSTEM
                return [*below, (target, active.format)], worth
            was_still = machine.silence.outlast(partial(_begin, hypervisor, machine, entry, disk, target), work)
        faults.reach("capture.after_begin")
        if _wait(tools, machine, hypervisor, slot, Copy(target, work, hear)):
            return [*below, (target, qemu_img.QCOW2)], FILESYSTEM if was_still else CRASH
        log.info("the machine was stopped while its disk was copied: once more", machine=machine.id)
    raise Refused("the machine was stopped again and again while its disk was copied", fix_by=YOU)


def _slot(spec: dict[str, Any], volume: str | None) -> int:
    """Of a volume, or of the disk that it boots from. Raises Refused."""
    if volume is None:
        return 0
    for one in spec.get("volumes") or ():
        if one["id"] == volume:
            return int(one["slot"])
    raise Refused("the machine does not have this volume any more")


def end_copy(tools: Tools, machine: Machine, slot: int | None = None) -> None:
    """Have its emulator let go of the copy of a disk; without a slot, of all disks."""
    with tools.lock(machine.id):
        entry = tools.ledger.get(machine.key)
        if entry is None:
            return
        with suppress(NoAnswer, Refused):
            hypervisor = machine.hypervisor(entry)
            if hypervisor.find(machine.home):
                with hypervisor.control(machine.home) as control:
                    if control.slots:
                        for each in control.slots.look().disks if slot is None else (slot,):
                            control.slots.end_copy(each)


def _fetch(machine: Machine, work: Work) -> disks.Fetch:
    return lambda file: machine.tools.images.fetch(file, work)


def _begin(hypervisor: Hypervisor, machine: Machine, entry: Entry, disk: Disk, target: Path) -> bool:
    """Begin to copy a disk as it is now. Returns whether the guest's file systems stood still at that moment."""
    with hypervisor.control(machine.home) as control:
        if control.slots is None:
            raise Refused(f"{hypervisor.name} copies no disk while its machine runs: stop it first", fix_by=YOU)
        control.slots.end_copy(disk.slot)  # of an earlier attempt
        size = control.slots.look().disks[disk.slot].size_bytes
        qemu_img.run(qemu_img.create(target, size))
        below = disk.layers[-2] if len(disk.layers) > 1 else None
        with (
            disks.opened((Disk(disk.slot, "", (Layer("copy", target, qemu_img.QCOW2),)),)) as (ready,),
            machine.held_still(entry, control) as moment,
        ):
            control.slots.begin_copy(disk.slot, ready.layers[-1], below)
    return moment.was_still


def _wait(tools: Tools, machine: Machine, hypervisor: Hypervisor, slot: int, copy: Copy) -> bool:
    """Wait until all is copied. False: the emulator ended first."""
    try:
        while True:
            copy.work.sleep(SECONDS_BETWEEN_LOOKS)
            check_room(copy.target.parent)
            with tools.lock(machine.id):
                if hypervisor.find(machine.home) is None:
                    return False
                with hypervisor.control(machine.home) as control:
                    assert control.slots is not None
                    copying = control.slots.look_at_copy(slot)
            if copying is None:
                return False  # by an emulator that was started anew
            if copying.problem:
                raise Refused(f"the disk could not be copied: {copying.problem}")
            if copying.is_done:
                return True
            copy.hear(copying.done, copying.of)
    finally:
        faults.reach("capture.before_end")
        end_copy(tools, machine, slot)
