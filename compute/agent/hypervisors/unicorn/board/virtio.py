# SPDX-License-Identifier: GPL-2.0-or-later
"""What all virtio devices share: the register file of virtio over MMIO, and queues.

Source: Virtual I/O Device (VIRTIO) Version 1.2, sections 2.1 (status) and 4.2 (MMIO). Whatever a driver writes is
untrusted: one that breaks the rules gets a device that asks to be reset.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from .memory import BadAddress, Ram
from .virtqueue import QUEUE_SIZE, Chain, Malformed, Queue

SIZE = 0x1000
MAGIC, MMIO_VERSION, VENDOR = 0x7472_6976, 2, 0x4349_4E55
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 64
USED_BUFFER, CONFIGURATION_CHANGE = 1, 2  # interrupt status
F_INDIRECT_DESCRIPTORS, F_VERSION_1 = 1 << 28, 1 << 32
WORD = 0xFFFF_FFFF
# Below this a device's write to memory holds no code worth looking for: rings, status bytes, small packets' headers.
MIN_CODE = 64


class Bus:
    """What devices reach: memory, and the engine that must hear of code that they overwrite."""

    def __init__(self, ram: Ram, forget_code: Callable[[int, int], None]) -> None:
        self.ram = ram
        self.forget_code = forget_code

    def write(self, address: int, content: bytes | memoryview) -> None:
        self.ram.write(address, content)
        if len(content) >= MIN_CODE:
            self.forget_code(address, len(content))


class Device:
    """A device behind the MMIO transport. A kind of device says what it is and serves its queues."""

    DEVICE_ID: ClassVar[int] = 0
    QUEUES: ClassVar[int] = 1
    NAME: ClassVar[str] = ""

    def __init__(self, bus: Bus, interrupt: Callable[[bool], None], features: int = 0) -> None:
        self.bus = bus
        self._interrupt = interrupt
        self.features = features | F_VERSION_1 | F_INDIRECT_DESCRIPTORS
        self.generation = 0
        self.reset()

    def reset(self) -> None:
        self.status = self.interrupt_status = self.selected_queue = 0
        self.feature_word = self.driver_feature_word = self.driver_features = 0
        self.queues = [Queue() for _ in range(self.QUEUES)]
        self._interrupt(False)

    # What a kind of device adds

    def configuration(self) -> bytes:
        return b""

    def configure(self, offset: int, value: int) -> None:
        """The driver writes to the device's configuration."""

    def serve(self, number: int) -> None:
        """The driver says that queue `number` has new buffers. Raises BadAddress or Malformed."""

    # Registers (section 4.2.2)

    def read(self, offset: int, size: int) -> int:
        if offset >= 0x100:
            return int.from_bytes(self.configuration()[offset - 0x100 : offset - 0x100 + size], "little")
        queue = self._selected
        match offset:
            case 0x000:
                return MAGIC
            case 0x004:
                return MMIO_VERSION
            case 0x008:
                return self.DEVICE_ID
            case 0x00C:
                return VENDOR
            case 0x010:
                return self.features >> 32 * self.feature_word & WORD if self.feature_word < 2 else 0
            case 0x034:
                return QUEUE_SIZE if queue else 0
            case 0x044:
                return queue.ready if queue else 0
            case 0x060:
                return self.interrupt_status
            case 0x070:
                return self.status
            case 0x0B0 | 0x0B4 | 0x0B8 | 0x0BC:  # shared memory regions: none, which is said with all ones
                return WORD
            case 0x0FC:
                return self.generation
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        value &= WORD
        if offset >= 0x100:
            self.configure(offset - 0x100, value)
            return
        match offset:
            case 0x014:
                self.feature_word = value
            case 0x020:
                if self.driver_feature_word < 2:
                    shift = 32 * self.driver_feature_word
                    self.driver_features = self.driver_features & ~(WORD << shift) | value << shift
            case 0x024:
                self.driver_feature_word = value
            case 0x030:
                self.selected_queue = value
            case 0x050:
                self.notify(value)
            case 0x064:
                self.interrupt_status &= ~value
                self._interrupt(self.interrupt_status != 0)
            case 0x070:
                self._set_status(value)
            case _:
                self._set_up_queue(offset, value)

    @property
    def _selected(self) -> Queue | None:
        return self.queues[self.selected_queue] if self.selected_queue < len(self.queues) else None

    def _set_status(self, value: int) -> None:
        if value == 0:
            self.reset()
            return
        acceptable = self.driver_features & F_VERSION_1 and not self.driver_features & ~self.features
        if value & FEATURES_OK and not self.status & FEATURES_OK and not acceptable:
            value &= ~FEATURES_OK
        self.status = value & 0xFF | self.status & NEEDS_RESET

    def _set_up_queue(self, offset: int, value: int) -> None:
        queue = self._selected
        if queue is None:
            return
        if offset == 0x044:
            usable = 0 < queue.size <= QUEUE_SIZE and not queue.size & queue.size - 1
            queue.ready = int(value == 1 and usable)
            queue.taken = queue.returned = 0
        elif queue.ready:
            return  # a live queue stays where it is
        elif offset == 0x038:
            queue.size = value
        elif offset in _AREAS:
            area, shift = _AREAS[offset]
            setattr(queue, area, getattr(queue, area) & ~(WORD << shift) | value << shift)

    # Virtqueues

    def notify(self, number: int) -> None:
        """Serve a queue, if the driver has set the device up."""
        if number < len(self.queues) and self.is_live:
            try:
                self.serve(number)
            except (BadAddress, Malformed):
                self._break()

    @property
    def is_live(self) -> bool:
        return bool(self.status & DRIVER_OK) and not self.status & NEEDS_RESET

    def chains(self, number: int) -> Iterator[Chain]:
        """The buffers that the driver has made available in a queue, one after another. Raises as `serve`.

        Never more than a queue holds: rings that overlap could go on for ever by what the device itself writes.
        """
        for _ in range(self.queues[number].size):
            chain = self.take(number)
            if chain is None:
                return
            yield chain

    def take(self, number: int) -> Chain | None:
        return self.queues[number].take(self.bus.ram)

    def give_back(self, number: int, chain: Chain, written: int) -> None:
        if self.queues[number].give_back(self.bus.ram, chain, written):
            self._raise(USED_BUFFER)

    def gather(self, chain: Chain) -> bytes:
        """Everything that the driver sent in a chain."""
        return b"".join(self.bus.ram.read(address, size) for address, size in chain.readable)

    def scatter(self, chain: Chain, content: bytes | memoryview) -> int:
        """Write to a chain as much as it takes; how much that was."""
        place = 0
        for address, size in chain.writable:
            piece = content[place : place + size]
            if not piece:
                break
            self.bus.write(address, piece)
            place += len(piece)
        return place

    # Interrupts

    def announce_configuration(self) -> None:
        """Tell the driver that the configuration has changed."""
        self.generation = self.generation + 1 & WORD
        if self.status & DRIVER_OK:
            self._raise(CONFIGURATION_CHANGE)

    def _raise(self, bits: int) -> None:
        self.interrupt_status |= bits
        self._interrupt(True)

    def _break(self) -> None:
        self.status |= NEEDS_RESET
        self._raise(CONFIGURATION_CHANGE)

    # Snapshots

    def save(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _REGISTERS} | {"queues": [queue.save() for queue in self.queues]}

    def restore(self, state: dict[str, Any]) -> None:
        for name in _REGISTERS:
            setattr(self, name, int(state[name]))
        for queue, saved in zip(self.queues, state["queues"], strict=True):
            queue.restore(saved)


_AREAS = {
    0x080: ("descriptors", 0),
    0x084: ("descriptors", 32),
    0x090: ("available", 0),
    0x094: ("available", 32),
    0x0A0: ("used", 0),
    0x0A4: ("used", 32),
}
_REGISTERS = (
    "status",
    "interrupt_status",
    "selected_queue",
    "feature_word",
    "driver_feature_word",
    "driver_features",
    "generation",
)
