# SPDX-License-Identifier: GPL-2.0-or-later
"""The Unicorn engine (2.1.x), and what this program has to know about its inside.

Two things are not in its API. Where the hart's registers are in a saved context: found by writing them through the API
and looking. And how to stop it *exactly*: a stop asked for by another thread is noticed after each load and store, and
the instruction that was already done is done again when the engine goes on, so an atomic add counts twice. With one
internal flag set the engine looks only where a block of code begins. The flag is found by a value planted beside it,
its neighbours are checked, and what was set is tested by running (`stops_exactly`). Where any of this fails, the engine
is run in counted slices and never stopped from outside: as exact, and some five times slower.
"""

import ctypes
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from . import library, translations
from .library import VERSION, registers, unicorn
from .memory import BASE, Ram

NOWHERE = 0x7FFF_FFFF_FFFF_F000  # where to run until: no guest has an address like this
CONTEXT_HEADER = 40  # struct uc_context before its data
TRANSLATION_CACHE = 64 << 20
SLICE = 100_000  # instructions
MACHINE, SUPERVISOR, USER = 3, 1, 0

# Words of a saved context: general registers 0-31, floating-point registers 32-63, and then:
PC, BAD_ADDRESS, PRIVILEGE, MSTATUS, MIP, MIE, SATP, STVAL, STVEC, SEPC, SCAUSE = (
    64,
    68,
    74,
    78,
    79,
    81,
    84,
    85,
    88,
    89,
    90,
)
PROBED = {
    registers.UC_RISCV_REG_X31: 31,
    registers.UC_RISCV_REG_STVAL: STVAL,
    registers.UC_RISCV_REG_STVEC: STVEC,
    registers.UC_RISCV_REG_SEPC: SEPC,
    registers.UC_RISCV_REG_SCAUSE: SCAUSE,
}

T = TypeVar("T")
Handler = Callable[[int, int], int]
Writer = Callable[[int, int, int], None]


class Unsuitable(Exception):
    """This build of Unicorn keeps its registers elsewhere: it cannot be used."""


class Engine:
    """One hart's engine over `ram`. `words` is the context last saved: change it, then `load`."""

    def __init__(self, ram: Ram, *, exact_stops: bool = True) -> None:
        self._handle: Any = ctypes.c_void_p()
        library.check(unicorn.uc_open(library.RISCV, library.RISCV64, ctypes.byref(self._handle)))
        library.control(self._handle, library.BUFFER_SIZE, ctypes.c_uint32(TRANSLATION_CACHE))
        self._ram = ram
        self._regions = 1
        self._kept: list[Any] = []  # callbacks, which C holds only by address
        self._failure: BaseException | None = None
        library.check(unicorn.uc_mem_map_ptr(self._handle, BASE, ram.size, library.ALL, ram.host_address))
        self._find_words()
        self.stops_from_outside = exact_stops and self._make_stops_exact()
        self._guard = threading.Lock()
        self._inside = False
        self.was_stopped = False
        self.in_exception = False

    # Running

    def run(self) -> int:
        """Run from where the hart is until it waits, faults or is stopped; Unicorn's error number."""
        self.save()
        with self._guard:
            self.was_stopped = False
            self._inside = True
        count = 0 if self.stops_from_outside else SLICE
        error = unicorn.uc_emu_start(self._handle, self.words[PC], NOWHERE, 0, count)
        with self._guard:
            self._inside = False
        return int(error)

    def stop(self) -> None:
        """Ask for an exit, from another thread. A request that comes too early is lost: ask again."""
        if self.stops_from_outside:
            with self._guard:
                if self._inside:
                    self.was_stopped = True
                    unicorn.uc_emu_stop(self._handle)

    def stop_inside(self) -> None:
        """Leave `run` after the trap that is being handled."""
        self.was_stopped = True
        unicorn.uc_emu_stop(self._handle)

    def close(self) -> None:
        """Give the engine's memory back."""
        unicorn.uc_context_free(self._context)
        self.words = (ctypes.c_uint64 * 128)()
        library.check(unicorn.uc_close(self._handle))
        self._kept.clear()

    # Registers

    def save(self) -> None:
        unicorn.uc_context_save(self._handle, self._context)

    def load(self) -> None:
        unicorn.uc_context_restore(self._handle, self._context)

    def set_register(self, register: int, value: int) -> None:
        library.check(unicorn.uc_reg_write(self._handle, register, ctypes.byref(ctypes.c_uint64(value))))

    def set_pending(self, mask: int, bits: int) -> None:
        """Change pending interrupts; the engine itself takes them when a block of code ends."""
        if not self.in_exception:  # then the saved context is what counts, with what was changed in it
            self.save()
        pending = self.words[MIP] & ~mask | bits
        if pending != self.words[MIP]:
            self.announce(pending)
            self.words[MIP] = pending

    def announce(self, pending: int) -> None:
        """Write the pending interrupts in a way that the engine notices; registers obey the present privilege."""
        self._pending.value, self._privilege.value = pending, self.words[PRIVILEGE]
        unicorn.uc_reg_write_batch(self._handle, self._batch, self._batch_values, 3)

    def content(self) -> bytes:
        """The saved context, for a snapshot."""
        return bytes(self.words)

    def set_content(self, content: bytes) -> None:
        """A context of the same version of the engine. Raises ValueError."""
        if len(content) != len(self.words) * 8:
            raise ValueError("the hart's state is of another version of Unicorn")
        ctypes.memmove(ctypes.addressof(self.words), content, len(content))
        self.load()

    # Memory

    def map_device(self, base: int, size: int, read: Handler, write: Writer) -> None:
        reads = library.ReadCallback(lambda _, offset, width, _data: self._carefully(read, offset, width) or 0)
        writes = library.WriteCallback(
            lambda _, offset, width, value, _data: self._carefully(write, offset, width, value)
        )
        self._kept += (reads, writes)
        library.check(unicorn.uc_mmio_map(self._handle, base, size, _address(reads), None, _address(writes), None))
        self._regions += 1

    def _carefully(self, callback: Callable[..., T], *arguments: int) -> T | None:
        """Nothing may unwind through C: what a callback raises ends `run`, for `raise_from_callbacks` to raise it."""
        try:
            return callback(*arguments)
        except BaseException as failure:
            self._failure = self._failure or failure
            self.stop_inside()
            return None

    def forget_code(self, address: int, size: int) -> None:
        """Drop what was translated from memory that a device has written: the engine does not see such writes."""
        self.save()
        before = self.words[PRIVILEGE]
        self.set_register(registers.UC_RISCV_REG_PRIV, MACHINE)  # where an address is a physical address
        begin, end = ctypes.c_uint64(address & ~0xFFF), ctypes.c_uint64(address + size + 0xFFF & ~0xFFF)
        library.control(self._handle, library.REMOVE_TRANSLATIONS, begin, end)
        self.set_register(registers.UC_RISCV_REG_PRIV, before)

    def flush_translations(self) -> None:
        library.control(self._handle, library.FLUSH_ADDRESSES)

    def drop_translations(self) -> None:
        """Give back the memory of all that was translated. What is needed again is translated again."""
        library.control(self._handle, library.FLUSH_TRANSLATIONS)
        translations.give_back()

    def hook_exceptions(self, deliver: Callable[[int], None]) -> None:
        callback = library.ExceptionCallback(lambda _, number, _data: self._carefully(deliver, number))
        self._kept.append(callback)
        hook = ctypes.c_size_t()
        everywhere = (1, 0)  # an interval that ends before it begins
        library.check(
            unicorn.uc_hook_add(
                self._handle, ctypes.byref(hook), library.HOOK_EXCEPTIONS, _address(callback), None, *everywhere
            )
        )

    def raise_from_callbacks(self) -> None:
        """Raise what a callback raised."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # The engine's inside

    def _find_words(self) -> None:
        """Make `words` a view of the registers in a context, and see that they are where they should be."""
        self._context = ctypes.c_void_p()
        if unicorn.uc_context_alloc(self._handle, ctypes.byref(self._context)) != library.OK:
            raise MemoryError("no room for a context")
        self._context_size = int(unicorn.uc_context_size(self._handle))
        words = (self._context_size - CONTEXT_HEADER) // 8
        self.words = (ctypes.c_uint64 * words).from_address(self._context.value + CONTEXT_HEADER)  # type: ignore[operator]
        self.set_register(registers.UC_RISCV_REG_PRIV, MACHINE)
        planted = {register: 0x1122_3344_0000 + 16 * number for number, register in enumerate(PROBED)}
        for register, value in planted.items():
            self.set_register(register, value)
        self.save()
        if any(self.words[PROBED[register]] != value for register, value in planted.items()):
            raise Unsuitable(f"Unicorn {VERSION} keeps its registers elsewhere")
        if self.words[PRIVILEGE] != MACHINE:
            raise Unsuitable(f"Unicorn {VERSION} keeps the privilege elsewhere")
        for register in PROBED:
            self.set_register(register, 0)
        self._pending, self._privilege, self._machine = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64(MACHINE)
        privilege, pending = registers.UC_RISCV_REG_PRIV, registers.UC_RISCV_REG_MIP
        self._batch = (ctypes.c_int * 3)(privilege, pending, privilege)
        places = (ctypes.addressof(value) for value in (self._machine, self._pending, self._privilege))
        self._batch_values = (ctypes.c_void_p * 3)(*places)

    def _make_stops_exact(self) -> bool:
        """Set `uc_struct.no_exit_request`, made for IT blocks of ARM, if this is an engine where it can be found."""
        unicorn.uc_emu_start(self._handle, NOWHERE, NOWHERE, 0, 0)
        content = ctypes.string_at(self._handle.value, 3584)
        planted, found, place = struct.pack("<Q", NOWHERE), [], -1
        while 0 <= (place := content.find(planted, place + 1)) <= len(content) - 616:
            (regions,) = struct.unpack_from("<I", content, place + 536)
            pages = struct.unpack_from("<IIQQ", content, place + 552)
            (context_size,) = struct.unpack_from("<i", content, place + 584)
            flags = content[place + 600 : place + 604]
            expected = (self._regions, (4096, 4095, 4096, 4096), self._context_size - CONTEXT_HEADER)
            if (regions, pages, context_size) == expected and flags[2:] == b"\0\1" and max(flags) <= 1:
                found.append(place + 602)
        if len(found) != 1:
            return False
        ctypes.c_uint8.from_address(self._handle.value + found[0]).value = 1
        library.control(self._handle, library.FLUSH_TRANSLATIONS)
        return True


def _address(callback: Any) -> ctypes.c_void_p:
    return ctypes.cast(callback, ctypes.c_void_p)


def stops_exactly(stops: int = 25) -> bool:
    """Whether a stop from outside never repeats what was done: atomic adds in memory against a count in a register."""
    counter = 0x1000
    program = (
        0x0010_0E13,  # li t3, 1
        0x01C3_302F,  # again: amoadd.d zero, t3, (t1)
        0x0012_8293,  # addi t0, t0, 1
        0x0000_0013,  # nop
        0xFF5F_F06F,  # j again
    )
    ram = Ram(1 << 20)
    ram.write(BASE, struct.pack("<5I", *program))
    engine = Engine(ram)
    if not engine.stops_from_outside:
        return False
    try:
        engine.set_register(registers.UC_RISCV_REG_PRIV, MACHINE)
        engine.set_register(registers.UC_RISCV_REG_T1, BASE + counter)
        engine.set_register(registers.UC_RISCV_REG_PC, BASE)
        for _ in range(stops):
            done = threading.Event()
            stopper = threading.Thread(target=_stop_soon, args=(engine, done))
            stopper.start()
            error = engine.run()
            done.set()
            stopper.join()
            engine.save()
            # A block begins at the first instruction and at `again`: there both counts are the same.
            if error or engine.words[PC] not in (BASE, BASE + 4):
                return False
            if ram.read_u64(BASE + counter) != engine.words[5]:
                return False
        return ram.read_u64(BASE + counter) > 0
    finally:
        engine.close()
        ram.close()


def _stop_soon(engine: Engine, done: threading.Event) -> None:
    time.sleep(0.0003)
    while not done.is_set():
        engine.stop()
        done.wait(0.0005)
