# SPDX-License-Identifier: GPL-2.0-or-later
"""Split virtqueues: rings in the guest's memory, by which a driver hands buffers to a device and gets them back.

Source: VIRTIO 1.2, section 2.7. Whatever a driver writes is untrusted: rings and buffers are checked against the
guest's memory, and chains are of bounded length and size.
"""

from struct import pack, unpack
from typing import Any, NamedTuple

from .memory import Ram

QUEUE_SIZE = 256
CHAIN_BYTES = 16 << 20
INDIRECT_LIMIT = 1024  # descriptors of one indirect table
NEXT, WRITE, INDIRECT = 1, 2, 4  # descriptor flags
NO_INTERRUPT = 1


class Malformed(Exception):
    """The driver broke the rules of a virtqueue."""


class Chain(NamedTuple):
    """A buffer that the driver made available: pieces for the device to read, then pieces to write, (address, size)."""

    head: int
    readable: list[tuple[int, int]]
    writable: list[tuple[int, int]]

    @property
    def room(self) -> int:
        return sum(size for _, size in self.writable)


class Queue:
    """`taken`, `returned`: running indexes of buffers taken from the driver and given back, modulo 2¹⁶."""

    def __init__(self) -> None:
        self.size = self.ready = 0
        self.descriptors = self.available = self.used = 0  # addresses
        self.taken = self.returned = 0

    def save(self) -> dict[str, int]:
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        for name in vars(self):
            setattr(self, name, int(state[name]))

    def take(self, ram: Ram) -> Chain | None:
        """The next buffer that the driver has made available. Raises BadAddress or Malformed."""
        if not self.ready:
            return None
        waiting = ram.read_u16(self.available + 2) - self.taken & 0xFFFF
        if not waiting:
            return None
        if waiting > self.size:
            raise Malformed("more buffers than the queue holds")
        head = ram.read_u16(self.available + 4 + 2 * (self.taken % self.size))
        chain = self._walk(ram, head)
        self.taken = self.taken + 1 & 0xFFFF
        return chain

    def put_back(self) -> None:
        """Undo the last `take`."""
        self.taken = self.taken - 1 & 0xFFFF

    def give_back(self, ram: Ram, chain: Chain, written: int) -> bool:
        """A buffer is done with, and so many bytes are written to it; whether the driver wants to hear of it."""
        ram.write(self.used + 4 + 8 * (self.returned % self.size), pack("<II", chain.head, written))
        self.returned = self.returned + 1 & 0xFFFF
        ram.write(self.used + 2, pack("<H", self.returned))
        return not ram.read_u16(self.available) & NO_INTERRUPT

    def _walk(self, ram: Ram, head: int) -> Chain:
        """Section 2.7.5: follow a chain of descriptors, and an indirect table at its end."""
        chain = Chain(head, [], [])
        table, entries, index = self.descriptors, self.size, head
        total, steps, indirect = 0, 0, False
        while True:
            if index >= entries:
                raise Malformed("a descriptor beyond its table")
            address, size, flags, following = unpack("<QIHH", ram.read(table + 16 * index, 16))
            steps += 1
            if flags & INDIRECT:
                if indirect or flags & NEXT or size % 16 or not 0 < size // 16 <= INDIRECT_LIMIT:
                    raise Malformed("an indirect table in the wrong place or of a wrong size")
                table, entries, index, indirect = address, size // 16, 0, True
                continue
            ram.offset(address, size)
            total += size
            if steps > entries + 1 or total > CHAIN_BYTES:
                raise Malformed("an endless chain, or too much in one")
            if flags & WRITE:
                chain.writable.append((address, size))
            elif chain.writable:
                raise Malformed("a piece to read after one to write")
            else:
                chain.readable.append((address, size))
            if not flags & NEXT:
                return chain
            index = following
