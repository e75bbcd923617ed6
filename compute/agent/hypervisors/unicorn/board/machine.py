# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: a computer with its switch, its console, its disks and its network.

One thread is the guest's processor and does everything that touches the guest; others `ask` it to. While the guest
computes, a second thread interrupts it a few hundred times a second, if there is something to do; while it waits,
neither does anything.
"""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from . import snapshot
from .buttons import KEY_POWER, KEY_WAKEUP
from .computer import Boot, Computer, Fittings
from .console import Console
from .cpu import TIMEBASE
from .library import VERSION
from .translations import Thrift

T = TypeVar("T")
MAX_TICK = 0.004
MIN_TICK = 0.0005
DISK_FULL = "paused: the host's disk is full or failing"


class Power(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"


class WrongState(Exception):
    """The verb makes no sense now; says why."""


class Machine:
    """`changed` is called whenever `power` does. A machine begins paused."""

    def __init__(self, fittings: Fittings, boot: Boot | None, console: Console) -> None:
        self._fittings = fittings
        self._boot = boot
        self.console = console
        self.changed: Callable[[], None] = lambda: None
        self.power = Power.PAUSED
        self.problem, self.curable = "", False
        self._reboot: bool | None = None  # set when the guest switches itself off: whether to come back
        self._jobs: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._computing = threading.Event()
        self._quitting = False
        self._paused_at: int | None = None
        self.power_cycles = 0
        self._thrift = Thrift()
        self.computer = Computer(self._fittings, self)
        for number, nic in enumerate(fittings.nics):
            nic.network.deliver = partial(self._deliver, number)

    def _deliver(self, number: int, frame: bytes) -> None:
        self.computer.nets[number].deliver(frame)

    # The processor's thread

    def run(self) -> None:
        """Be the processor until `quit`. Raises whatever the guest or a device brought the emulator to."""
        threading.Thread(target=self._interrupt_now_and_then, name="interrupts", daemon=True).start()
        while not self._quitting:
            if self.power == Power.RUNNING:
                self._compute()
            else:
                self._sleep(None)
            self._do_jobs()

    def _compute(self) -> None:
        hart = self.computer.hart
        self._computing.set()
        wait = hart.run()
        if self._reboot is not None:
            self._computing.clear()
            self._power_cycle(reboot=self._reboot)
            return
        hart.ring_timer()
        if wait:
            self._computing.clear()
            self.console.write_out()
            if self._thrift.has_become_idle():
                self.computer.engine.drop_translations()
            self._sleep(wait)
            hart.ring_timer()

    def _sleep(self, seconds: float | None) -> None:
        if self._jobs:
            return
        ready, _, _ = select.select([self._wake], [], [], seconds)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _interrupt_now_and_then(self) -> None:
        """Make the processor look at its timer and its jobs while it computes."""
        while not self._quitting:
            self._computing.wait()
            hart = self.computer.hart
            deadline = hart.deadline
            left = MAX_TICK if deadline is None else (deadline - hart.now()) / TIMEBASE
            time.sleep(min(MAX_TICK, max(MIN_TICK, left)))
            if self._jobs or hart.timer_is_due:
                self.computer.engine.stop()
            self.console.write_out()

    # Jobs

    def ask(self, job: Callable[[], T], seconds: float = 60.0) -> T:
        """Have the processor's thread do something between two instructions; its answer, or what it raised."""
        return self.post(job).result(seconds)

    def post(self, job: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        self._jobs.append((future, job))
        self.computer.engine.stop()
        os.eventfd_write(self._wake, 1)
        return future

    def _do_jobs(self) -> None:
        while self._jobs:
            future, job = self._jobs.pop(0)
            try:
                future.set_result(job())
            except Exception as error:
                future.set_exception(error)

    # Chassis: what the computer tells

    def say(self, content: bytes) -> None:
        self.console.say(content)

    def switched_off(self, *, reboot: bool) -> None:
        self._reboot = reboot

    def stalled(self) -> None:
        self._set_power(Power.PAUSED, DISK_FULL, curable=True)

    # Verbs, on the processor's thread

    def start(self) -> None:
        """Switch on. Raises Unbootable or OSError."""
        if self._boot is None:
            raise WrongState("there is nothing to boot")
        self.computer.load(self._boot)
        self.power_cycles += 1
        self._set_power(Power.RUNNING)

    def reset(self) -> None:
        """Begin anew, whatever the guest was doing, also when it is off."""
        self._replace(Computer(self._fittings, self))
        self.start()

    def press_power_button(self) -> None:
        self.computer.buttons.press(KEY_POWER)

    def pause(self) -> None:
        if self.power == Power.RUNNING:
            self._set_power(Power.PAUSED)

    def resume(self) -> None:
        """Go on after a pause, and try again what the host had no room for."""
        if self.power == Power.PAUSED:
            self._set_power(Power.RUNNING)
            for block in self.computer.blocks:
                block.go_on()

    def snapshot(self, directory: Path) -> dict[str, Any]:
        """Write a snapshot; the guest stands still meanwhile. Raises WrongState or OSError."""
        if self.power == Power.OFF:
            raise WrongState("the guest is off: there is nothing to keep")
        return snapshot.save(self.computer, directory)

    def restore(self, directory: Path, *, same_generation: bool = False) -> None:
        """Go on from a snapshot, paused. Unless it is the only one to do so, the guest is told. Raises Unusable."""
        state = snapshot.read(directory)
        fittings = self._fittings._replace(memory_mib=state["memory_mib"], saved_memory=directory / snapshot.MEMORY)
        computer = Computer(fittings, self)
        try:
            snapshot.restore(computer, state)
        except BaseException:
            computer.close()
            raise
        self._replace(computer)
        self._paused_at = computer.hart.now()
        self._set_power(Power.PAUSED)
        if same_generation:
            computer.generation.identity = bytes.fromhex(state["generation"])
        else:
            for block in computer.blocks:
                block.announce_size()
            computer.generation.change()
            computer.buttons.press(KEY_WAKEUP)

    def quit(self) -> None:
        self._quitting = True
        self._computing.set()

    def close(self) -> None:
        """Write everything out. Raises OSError."""
        self.console.write_out()
        for block in self.computer.blocks:
            block.disk.close()

    # Parts of verbs

    def _replace(self, computer: Computer) -> None:
        before, self.computer = self.computer, computer
        self._reboot = None
        before.close()

    def _power_cycle(self, *, reboot: bool) -> None:
        self._reboot = None
        self.console.write_out()
        for block in self.computer.blocks:
            with contextlib.suppress(OSError):  # what the guest wanted to keep it has flushed itself
                block.disk.flush()
        if reboot:
            self.reset()
        else:
            self._set_power(Power.OFF)

    def _set_power(self, power: Power, problem: str = "", *, curable: bool = False) -> None:
        """The guest's time stands still while it does not run."""
        hart = self.computer.hart
        if self.power == Power.RUNNING and power != Power.RUNNING:
            self._paused_at = hart.now()
            self.computer.engine.stop()
            self._computing.clear()
            self.console.write_out()
        elif power == Power.RUNNING and self._paused_at is not None:
            hart.set_now(self._paused_at)
            self._paused_at = None
        self.power, self.problem, self.curable = power, problem, curable
        self.changed()

    def stats(self) -> dict[str, Any]:
        """Figures since power-on."""
        computer = self.computer
        return {
            "unicorn": VERSION,
            "exact_stops": computer.engine.stops_from_outside,
            "power_cycles": self.power_cycles,
            "guest_seconds": computer.hart.now() / TIMEBASE,
            "cpu_seconds": time.process_time(),
            "hart": dict(computer.hart.counts),
            "disks": [dict(block.counts) for block in computer.blocks],
            "nics": [dict(net.counts) for net in computer.nets],
            "console_bytes": self.console.said,
        }
