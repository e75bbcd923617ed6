# SPDX-License-Identifier: GPL-2.0-or-later
"""The hart: what the engine leaves to its user.

The engine walks page tables, enters interrupts and returns from them. Left are exceptions, which it only reports; the
time, which it has no register for; the timer; and waiting. Source: RISC-V Instruction Set Manual, volume II (privileged
architecture, 20211203), chapters 3 and 4.
"""

import struct
import time
from collections.abc import Callable

from . import engine as e
from .engine import Engine
from .library import registers
from .memory import BadAddress, Ram

TIMEBASE = 10_000_000  # ticks per second
NANOSECONDS_PER_TICK = 1_000_000_000 // TIMEBASE
NEVER = (1 << 64) - 1
SOFTWARE, TIMER, EXTERNAL = 1 << 1, 1 << 5, 1 << 9  # supervisor interrupts in mip
FETCH_FAULT, ILLEGAL, BREAKPOINT, LOAD_FAULT, STORE_FAULT, USER_CALL = 1, 2, 3, 5, 7, 8
READ_UNMAPPED, WRITE_UNMAPPED, FETCH_UNMAPPED, EXCEPTION = 6, 7, 8, 21  # Unicorn's errors
ACCESS_FAULTS = {READ_UNMAPPED: LOAD_FAULT, WRITE_UNMAPPED: STORE_FAULT, FETCH_UNMAPPED: FETCH_FAULT}
RDTIME, RDTIME_MASK = 0xC010_2073, 0xFFFF_F07F  # csrrs rd, time, x0
WFI = 0x1050_0073
TIME_READS_KEPT = 1024
UNSIGNED_32 = struct.Struct("<I")
LEVELS = {8: 3, 9: 4, 10: 5}  # satp's mode → levels of page tables
A0, A1 = 10, 11


class MachineCheck(Exception):
    """The engine cannot go on with this guest."""


class Hart:
    """`firmware` answers calls from supervisor mode."""

    def __init__(
        self, ram: Ram, engine: Engine, firmware: Callable[[int, int, int, int, int], tuple[int, int | None]]
    ) -> None:
        self._ram = ram
        self._engine = engine
        self._firmware = firmware
        self._began = time.monotonic_ns()
        self.deadline: int | None = None  # of the timer, in ticks
        self._time_reads: dict[int, int] = {}
        self.counts = dict.fromkeys(("runs", "waits", "traps", "time_reads", "firmware_calls", "stops"), 0)
        engine.hook_exceptions(self._on_exception)

    # Life

    def begin(self, entry: int, devicetree: int) -> None:
        """Where firmware hands over: supervisor mode, no translation, a0 = hart, a1 = devicetree."""
        set_register = self._engine.set_register
        set_register(registers.UC_RISCV_REG_PRIV, e.MACHINE)
        set_register(registers.UC_RISCV_REG_MIDELEG, SOFTWARE | TIMER | EXTERNAL)
        set_register(registers.UC_RISCV_REG_MEDELEG, 0xB1FF)
        set_register(registers.UC_RISCV_REG_MCOUNTEREN, 7)
        set_register(registers.UC_RISCV_REG_SATP, 0)
        set_register(registers.UC_RISCV_REG_A0, 0)
        set_register(registers.UC_RISCV_REG_A1, devicetree)
        set_register(registers.UC_RISCV_REG_PRIV, e.SUPERVISOR)
        set_register(registers.UC_RISCV_REG_PC, entry)

    def go_on(self, *, now: int, deadline: int | None) -> None:
        """After a context was loaded: the time goes on from `now`, and what was pending is pending."""
        self.set_now(now)
        self.deadline = deadline
        self._engine.save()
        self._engine.announce(self._engine.words[e.MIP])

    def run(self) -> float | None:
        """Run until something asks for attention; how many seconds the hart would wait now, None when it would not.

        Raises MachineCheck, and whatever a device raised.
        """
        self.counts["runs"] += 1
        error = self._engine.run()
        self._engine.raise_from_callbacks()
        if error:
            self._fault(error)
            return None
        if self._engine.was_stopped:
            self.counts["stops"] += 1
            return None
        if not self._engine.stops_from_outside:
            return self._wait_after_slice()
        return self._wait()

    def _wait(self) -> float | None:
        self._engine.save()
        if self._engine.words[e.MIP] & self._engine.words[e.MIE]:
            return None
        self.counts["waits"] += 1
        if self.deadline is None:
            return 3600.0
        return max(0.0, (self.deadline - self.now()) / TIMEBASE)

    def _wait_after_slice(self) -> float | None:
        """A slice may have ended at any instruction, by chance after a `wfi` that is over: then never wait for long."""
        self._engine.save()
        try:
            waiting = int.from_bytes(self._fetch(self._engine.words[e.PC] - 4), "little") == WFI
        except BadAddress:
            waiting = False
        wait = self._wait() if waiting else None
        return None if wait is None else min(wait, 0.004)

    # Interrupts and time

    def now(self) -> int:
        return (time.monotonic_ns() - self._began) // NANOSECONDS_PER_TICK

    def set_now(self, ticks: int) -> None:
        self._began = time.monotonic_ns() - ticks * NANOSECONDS_PER_TICK

    def set_external(self, raised: bool) -> None:
        self._engine.set_pending(EXTERNAL, EXTERNAL if raised else 0)

    @property
    def timer_is_due(self) -> bool:
        deadline = self.deadline  # once: the processor's thread may change it meanwhile
        return deadline is not None and deadline <= self.now()

    def ring_timer(self) -> None:
        """Make the timer's interrupt pending when it is time."""
        if self.timer_is_due:
            self.deadline = None
            self._engine.set_pending(TIMER, TIMER)

    def set_timer(self, deadline: int) -> None:
        self._engine.set_pending(TIMER, 0)
        self.deadline = None if deadline >= NEVER >> 1 else deadline
        self.ring_timer()

    def interrupt_self(self) -> None:
        self._engine.set_pending(SOFTWARE, SOFTWARE)

    # Exceptions

    def _on_exception(self, cause: int) -> None:
        """The engine met an exception and has advanced pc by 4, whatever the instruction's length."""
        self._engine.save()
        self._engine.in_exception = True
        self._engine.words[e.PC] -= 4
        try:
            self._trap(cause)
        finally:
            self._engine.in_exception = False
            self._engine.load()

    def _trap(self, cause: int) -> None:
        self.counts["traps"] += 1
        words = self._engine.words
        value = 0
        if cause == USER_CALL:
            if words[e.PRIVILEGE] == e.SUPERVISOR:
                self.counts["firmware_calls"] += 1
                words[e.PC] += 4
                error, answer = self._firmware(words[17], words[16], words[10], words[11], words[12])
                words[A0] = error
                if answer is not None:
                    words[A1] = answer
                return
        elif cause == ILLEGAL:
            if self._read_time():
                return
        elif cause == BREAKPOINT:
            value = words[e.PC]
        else:
            value = words[e.BAD_ADDRESS]
        self._enter(cause, value)

    def _enter(self, cause: int, value: int) -> None:
        """Section 4.1: SPP and SPIE keep what was, interrupts go off, on to the supervisor's handler."""
        words = self._engine.words
        status = words[e.MSTATUS]
        words[e.MSTATUS] = status & ~0x122 | (status & 2) << 4 | (words[e.PRIVILEGE] & 1) << 8
        words[e.SEPC], words[e.SCAUSE], words[e.STVAL] = words[e.PC], cause, value
        words[e.PC] = words[e.STVEC] & ~3
        words[e.PRIVILEGE] = e.SUPERVISOR

    def _read_time(self) -> bool:
        """`rdtime`, as firmware does it on harts without a time register; whether it was that.

        A kernel reads the time at a few places of its own, thousands of times a second. Where those are in memory is
        remembered, and the instruction is looked at each time.
        """
        words = self._engine.words
        pc = words[e.PC]
        place = self._time_reads.get(pc)
        if place is None:
            try:
                instruction = int.from_bytes(self._fetch(pc), "little")
                place = self._ram.offset(self._translate(pc), 4)
            except BadAddress:
                return False
            if pc >> 63 and pc & 0xFFF <= 0xFFC and len(self._time_reads) < TIME_READS_KEPT:
                self._time_reads[pc] = place
        else:
            (instruction,) = UNSIGNED_32.unpack_from(self._ram.map, place)
        if instruction & RDTIME_MASK != RDTIME:
            self._time_reads.pop(pc, None)
            return False
        target = instruction >> 7 & 31
        if target:
            words[target] = self.now()
        words[e.PC] += 4
        self.counts["time_reads"] += 1
        return True

    def _fault(self, error: int) -> None:
        """What the engine could not go on with: a breakpoint, or memory that nothing answers for."""
        self._engine.save()
        words = self._engine.words
        if error in ACCESS_FAULTS:
            self._enter(ACCESS_FAULTS[error], words[e.BAD_ADDRESS])
        elif error == EXCEPTION and self._is_breakpoint():
            self._enter(BREAKPOINT, words[e.PC])
        else:
            raise MachineCheck(f"Unicorn's error {error} at {words[e.PC]:#x}")
        self._engine.load()

    def _is_breakpoint(self) -> bool:
        try:
            return self._fetch(self._engine.words[e.PC])[:2] in (b"\x02\x90", b"\x73\x00")
        except BadAddress:
            return False

    # Virtual memory

    def _fetch(self, address: int) -> bytes:
        """Four bytes of code, which may lie in two pages. Raises BadAddress."""
        if address & 0xFFF <= 0xFFC:
            return self._ram.read(self._translate(address), 4)
        return self._ram.read(self._translate(address), 2) + self._ram.read(self._translate(address + 2), 2)

    def _translate(self, address: int) -> int:
        """Section 4.3.2: virtual to physical. Raises BadAddress."""
        satp = self._engine.words[e.SATP]
        levels = LEVELS.get(satp >> 60, 0)
        if not levels or self._engine.words[e.PRIVILEGE] == e.MACHINE:
            return address
        table = (satp & (1 << 44) - 1) << 12
        memory, offset = self._ram.map, self._ram.offset
        for level in range(levels - 1, -1, -1):
            place = offset(table + (address >> 12 + 9 * level & 511) * 8, 8)
            (entry,) = struct.unpack_from("<Q", memory, place)
            if not entry & 1:
                break
            table = (entry >> 10 & (1 << 44) - 1) << 12
            if entry & 0b1110:
                mask = (1 << 12 + 9 * level) - 1
                return int(table & ~mask | address & mask)
        raise BadAddress(f"nothing is mapped at {address:#x}")
