# SPDX-License-Identifier: GPL-2.0-or-later
"""The computer from power-on to power-off: memory, hart and devices, wired up and loaded.

What outlives a power cycle (disks, the console, the network) belongs to `machine.py`.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from . import devicetree as places
from . import memory, plic, rtc, uart, virtio, vmgenid
from .block import Block, Disk
from .buttons import Buttons
from .cpu import Hart
from .devicetree import Contents, devicetree
from .engine import Engine
from .memory import BadAddress, Ram
from .net import Net
from .networks import Network
from .plic import Plic
from .rng import Rng
from .rtc import Rtc
from .sbi import Firmware
from .uart import Uart
from .virtio import Bus, Device
from .vmgenid import Generation

MIB = 1 << 20
MEMORY_MIB = range(64, 1025)
ENTRY = memory.BASE + 2 * MIB
IMAGE_MAGIC_AT, IMAGE_MAGIC, IMAGE_SIZE_AT = 0x30, b"RISCV", 16
DEVICETREE_ROOM = MIB


class Unbootable(Exception):
    """What was given cannot be started; its words are for the tenant."""


class Boot(NamedTuple):
    """What is loaded at power-on. Several initial file systems are put one after another."""

    kernel: Path
    initrds: tuple[Path, ...] = ()
    command_line: str = ""


class Drive(NamedTuple):
    disk: Disk
    serial: str = ""


class Nic(NamedTuple):
    mac: bytes
    network: Network


class Chassis(Protocol):
    """What is around the computer."""

    def say(self, content: bytes) -> None:
        """What the guest writes to its serial port or to the firmware's console."""

    def switched_off(self, *, reboot: bool) -> None: ...

    def stalled(self) -> None:
        """The host has no room for what the guest writes."""


class Fittings(NamedTuple):
    """What a computer is built with."""

    memory_mib: int
    drives: tuple[Drive, ...] = ()
    nics: tuple[Nic, ...] = ()
    exact_stops: bool = True
    saved_memory: Path | None = None


class Computer:
    """One power cycle."""

    def __init__(self, fittings: Fittings, chassis: Chassis) -> None:
        self._chassis = chassis
        self.ram = Ram(fittings.memory_mib * MIB, fittings.saved_memory)
        self.engine = Engine(self.ram, exact_stops=fittings.exact_stops)
        self.hart = Hart(self.ram, self.engine, Firmware(self.ram, self).call)
        self.plic = Plic(self.hart.set_external)
        self.uart = Uart(lambda high: self.plic.set_level(places.UART_SOURCE, high), chassis.say)
        self.generation = Generation(lambda: self.plic.pulse(places.GENERATION_SOURCE))
        self.bus = Bus(self.ram, self.engine.forget_code)
        self.blocks: list[Block] = []
        self.nets: list[Net] = []
        self.virtio: list[Device] = []
        for drive in fittings.drives:
            self.blocks.append(Block(*self._slot(), drive.disk, drive.serial, chassis.stalled))
            self.virtio.append(self.blocks[-1])
        for nic in fittings.nics:
            self.nets.append(Net(*self._slot(), nic.mac, nic.network.send))
            self.virtio.append(self.nets[-1])
        self.virtio.append(Rng(*self._slot()))
        self.buttons = Buttons(*self._slot())
        self.virtio.append(self.buttons)
        self._map_devices()

    def _slot(self) -> tuple[Bus, Callable[[bool], None]]:
        number = len(self.virtio)
        if number >= places.SLOTS:
            raise Unbootable(f"more than {places.SLOTS} devices")
        source = places.FIRST_VIRTIO_SOURCE + number
        return self.bus, lambda high: self.plic.set_level(source, high)

    def _map_devices(self) -> None:
        """Map every device, and below memory nothing but silence between them: an access there is no error."""
        devices: list[tuple[int, int, Any]] = [
            (places.PLIC_BASE, plic.SIZE, self.plic),
            (places.UART_BASE, uart.SIZE, self.uart),
            (places.RTC_BASE, rtc.SIZE, Rtc()),
            (places.GENERATION_BASE, vmgenid.SIZE, self.generation),
            *((places.virtio_address(slot), virtio.SIZE, device) for slot, device in enumerate(self.virtio)),
        ]
        end = 0
        for base, size, device in sorted(devices, key=lambda item: item[0]):
            if base > end:
                self.engine.map_device(end, base - end, _silence, _ignore)
            self.engine.map_device(base, size, device.read, device.write)
            end = base + size
        self.engine.map_device(end, memory.BASE - end, _silence, _ignore)

    def load(self, boot: Boot) -> None:
        """Put kernel, initial file systems and devicetree into memory, and the hart at the kernel's entry.

        Source: Linux's Documentation/arch/riscv/boot.rst. Raises Unbootable or OSError.
        """
        top = memory.BASE + self.ram.size
        tree_at = top - 2 * DEVICETREE_ROOM & ~0xFFFFF
        try:
            size = self.ram.load(boot.kernel, ENTRY, tree_at - ENTRY)
            if self.ram.read(ENTRY + IMAGE_MAGIC_AT, 5) == IMAGE_MAGIC:
                (claimed,) = struct.unpack("<Q", self.ram.read(ENTRY + IMAGE_SIZE_AT, 8))  # with what it will use
                size = max(size, min(claimed, self.ram.size))
            initrd = self._load_initrds(boot.initrds, ENTRY + size, tree_at)
        except BadAddress as error:
            raise Unbootable(f"kernel and initrd do not fit into {self.ram.size // MIB} MiB: {error}") from error
        contents = Contents(self.ram.size, len(self.virtio), boot.command_line, os.urandom(64), initrd)
        tree = devicetree(contents)
        if len(tree) > DEVICETREE_ROOM:
            raise Unbootable("the kernel's command line is too long")
        self.ram.write(tree_at, tree)
        self.hart.begin(ENTRY, tree_at)

    def _load_initrds(self, files: tuple[Path, ...], low: int, high: int) -> tuple[int, int] | None:
        if not files:
            return None
        room = sum(file.stat().st_size + 4095 & ~4095 for file in files)
        start = high - room & ~0xFFFFF
        if start < low:
            raise BadAddress(f"{room} bytes of initrd between {low:#x} and {high:#x}")
        end = start
        for file in files:
            end = end + 3 & ~3  # archives begin at multiples of four; zeros between them are skipped
            end += self.ram.load(file, end, high - end)
        return start, end

    # What the firmware is asked to do (sbi.Supervisor)

    def set_timer(self, deadline: int) -> None:
        self.hart.set_timer(deadline)

    def interrupt_self(self) -> None:
        self.hart.interrupt_self()

    def flush_translations(self) -> None:
        self.engine.flush_translations()

    def say(self, content: bytes) -> None:
        self._chassis.say(content)

    def hear(self, limit: int) -> bytes:
        return self.uart.take(limit)

    def switch_off(self, *, reboot: bool) -> None:
        self._chassis.switched_off(reboot=reboot)
        self.engine.stop_inside()

    def close(self) -> None:
        self.engine.close()
        self.ram.close()


def _silence(offset: int, size: int) -> int:
    return 0


def _ignore(offset: int, size: int, value: int) -> None:
    return None
