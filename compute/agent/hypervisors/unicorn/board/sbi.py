# SPDX-License-Identifier: GPL-2.0-or-later
"""The firmware that a supervisor calls with `ecall`. Source: RISC-V Supervisor Binary Interface Specification 2.0."""

from collections.abc import Callable
from typing import Protocol

from .memory import BadAddress, Ram

SPECIFICATION = 2 << 24
IMPLEMENTATION, IMPLEMENTATION_VERSION = 0x5049, 1
BASE_EXTENSION, TIME, IPI, RFENCE, HSM, SRST, DBCN = (
    0x10,
    0x54494D45,
    0x735049,
    0x52464E43,
    0x48534D,
    0x53525354,
    0x4442434E,
)
EXTENSIONS = (BASE_EXTENSION, TIME, IPI, RFENCE, HSM, SRST, DBCN)
LEGACY_SET_TIMER, LEGACY_PUT, LEGACY_GET, LEGACY_SHUTDOWN = 0, 1, 2, 8
LEGACY = (LEGACY_SET_TIMER, LEGACY_PUT, LEGACY_GET, 3, 4, 5, 6, 7, LEGACY_SHUTDOWN)
SUCCESS, NOT_SUPPORTED, INVALID_PARAMETER, INVALID_ADDRESS, ALREADY_AVAILABLE = 0, -2, -3, -5, -6
WORD = (1 << 64) - 1
CONSOLE_LIMIT = 4096  # bytes per call: a guest may say less than it is asked for


class Supervisor(Protocol):
    """What the firmware may do to the computer."""

    def set_timer(self, deadline: int) -> None: ...
    def interrupt_self(self) -> None: ...
    def flush_translations(self) -> None: ...
    def say(self, content: bytes) -> None: ...
    def hear(self, limit: int) -> bytes: ...
    def switch_off(self, *, reboot: bool) -> None: ...


class Firmware:
    """`call` answers one `ecall`: the new a0 and a1 (None: unchanged)."""

    def __init__(self, ram: Ram, supervisor: Supervisor) -> None:
        self._ram = ram
        self._supervisor = supervisor
        self._extensions: dict[int, Callable[[int, int, int, int], tuple[int, int]]] = {
            BASE_EXTENSION: self._base,
            TIME: self._time,
            IPI: self._ipi,
            RFENCE: self._rfence,
            HSM: self._hsm,
            SRST: self._srst,
            DBCN: self._dbcn,
        }

    def call(self, extension: int, function: int, a0: int, a1: int, a2: int) -> tuple[int, int | None]:
        if extension in LEGACY:
            return self._legacy(extension, a0) & WORD, None
        answer = self._extensions.get(extension)
        error, value = answer(function, a0, a1, a2) if answer else (NOT_SUPPORTED, 0)
        return error & WORD, value & WORD

    def _base(self, function: int, a0: int, a1: int, a2: int) -> tuple[int, int]:
        values = (SPECIFICATION, IMPLEMENTATION, IMPLEMENTATION_VERSION, int(a0 in EXTENSIONS), 0, 0, 0)
        return (SUCCESS, values[function]) if function < len(values) else (NOT_SUPPORTED, 0)

    def _time(self, function: int, a0: int, a1: int, a2: int) -> tuple[int, int]:
        if function:
            return NOT_SUPPORTED, 0
        self._supervisor.set_timer(a0)
        return SUCCESS, 0

    def _ipi(self, function: int, a0: int, a1: int, a2: int) -> tuple[int, int]:
        if function:
            return NOT_SUPPORTED, 0
        if _means_hart_0(a0, a1):
            self._supervisor.interrupt_self()
            return SUCCESS, 0
        return INVALID_PARAMETER, 0

    def _rfence(self, function: int, a0: int, a1: int, a2: int) -> tuple[int, int]:
        if function > 2:  # from 3 on: for hypervisors
            return NOT_SUPPORTED, 0
        self._supervisor.flush_translations()
        return SUCCESS, 0

    def _hsm(self, function: int, a0: int, a1: int, a2: int) -> tuple[int, int]:
        """There is one hart, and it is started."""
        if function == 0:
            return (ALREADY_AVAILABLE, 0) if a0 == 0 else (INVALID_PARAMETER, 0)
        if function == 2:
            return (SUCCESS, 0) if a0 == 0 else (INVALID_PARAMETER, 0)
        return NOT_SUPPORTED, 0

    def _srst(self, function: int, a0: int, a1: int, a2: int) -> tuple[int, int]:
        if function:
            return NOT_SUPPORTED, 0
        if a0 > 2:
            return INVALID_PARAMETER, 0
        self._supervisor.switch_off(reboot=a0 != 0)
        return SUCCESS, 0

    def _dbcn(self, function: int, a0: int, a1: int, a2: int) -> tuple[int, int]:
        try:
            if function == 0:
                content = self._ram.read(a1 | a2 << 64, min(a0, CONSOLE_LIMIT))
                self._supervisor.say(content)
                return SUCCESS, len(content)
            if function == 1:
                size = min(a0, CONSOLE_LIMIT)
                self._ram.offset(a1 | a2 << 64, size)
                content = self._supervisor.hear(size)
                self._ram.write(a1, content)
                return SUCCESS, len(content)
        except BadAddress:
            return INVALID_PARAMETER, 0
        if function == 2:
            self._supervisor.say(bytes((a0 & 0xFF,)))
            return SUCCESS, 0
        return NOT_SUPPORTED, 0

    def _legacy(self, extension: int, a0: int) -> int:
        """The calls of version 0.1, which old kernels and boot loaders use. Fences concern one hart: nothing to do."""
        if extension == LEGACY_SET_TIMER:
            self._supervisor.set_timer(a0)
        elif extension == LEGACY_PUT:
            self._supervisor.say(bytes((a0 & 0xFF,)))
        elif extension == LEGACY_GET:
            heard = self._supervisor.hear(1)
            return heard[0] if heard else -1
        elif extension == 4:
            self._supervisor.interrupt_self()
        elif extension in (6, 7):
            self._supervisor.flush_translations()
        elif extension == LEGACY_SHUTDOWN:
            self._supervisor.switch_off(reboot=False)
        return SUCCESS


def _means_hart_0(mask: int, base: int) -> bool:
    """Section 3.1: a mask of harts from `base` on; a base of -1 means all."""
    return base == WORD or (base == 0 and bool(mask & 1))
