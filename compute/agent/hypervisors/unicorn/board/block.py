# SPDX-License-Identifier: GPL-2.0-or-later
"""The block device. Source: VIRTIO 1.2, section 5.2."""

import errno
import struct
from collections.abc import Callable
from typing import Any, Protocol

from .virtio import Bus, Device
from .virtqueue import Chain

SECTOR = 512
READ, WRITE, FLUSH, GET_ID = 0, 1, 4, 8
OK, IO_ERROR, UNSUPPORTED = 0, 1, 2
F_SEGMENTS_MAX, F_READ_ONLY, F_BLOCK_SIZE, F_FLUSH = 1 << 2, 1 << 5, 1 << 6, 1 << 9
SEGMENTS_MAX = 254
HEADER = struct.Struct("<IIQ")


class Disk(Protocol):
    """What is behind the device: `size` bytes. Each verb may raise OSError."""

    size: int
    read_only: bool

    def read(self, offset: int, into: memoryview) -> None: ...
    def write(self, offset: int, content: memoryview) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Block(Device):
    """`stall` is called when the host has no room for what the guest writes: the request is kept until `go_on`."""

    DEVICE_ID = 2
    NAME = "block"

    def __init__(
        self, bus: Bus, interrupt: Callable[[bool], None], disk: Disk, serial: str, stall: Callable[[], None]
    ) -> None:
        self.disk = disk
        self._known_size: int | None = disk.size  # None: what the driver takes it for is not known
        self._serial = serial.encode()[:20]
        self._stall = stall
        self.counts = {"reads": 0, "writes": 0, "flushes": 0, "read_bytes": 0, "written_bytes": 0}
        read_only = F_READ_ONLY if disk.read_only else 0
        super().__init__(bus, interrupt, F_SEGMENTS_MAX | F_BLOCK_SIZE | F_FLUSH | read_only)

    def configuration(self) -> bytes:
        # capacity, size_max, seg_max, geometry, blk_size, then topology and more that no feature announces.
        return struct.pack("<QII4sI", self.disk.size // SECTOR, 0, SEGMENTS_MAX, bytes(4), SECTOR).ljust(96, b"\0")

    def serve(self, number: int) -> None:
        for chain in self.chains(0):
            try:
                status, written = self._obey(chain)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    self.queues[0].put_back()
                    self._stall()
                    return
                status, written = IO_ERROR, 0
            self._finish(chain, status, written)

    def announce_size(self) -> None:
        """Tell the driver, unless it knows: what was saved may go on with a larger disk."""
        if self.disk.size != self._known_size:
            self.announce_configuration()

    def save(self) -> dict[str, Any]:
        return super().save() | {"size": self.disk.size}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._known_size = state.get("size")

    def go_on(self) -> None:
        """Try again what was kept."""
        self.notify(0)

    def _obey(self, chain: Chain) -> tuple[int, int]:
        """Do a request; its status, and the bytes written to the driver's memory. Raises OSError."""
        header = _cut(chain.readable, 0, HEADER.size)
        if sum(size for _, size in header) != HEADER.size or chain.room < 1:
            return IO_ERROR, 0
        kind, _, sector = HEADER.unpack(b"".join(self.bus.ram.read(address, size) for address, size in header))
        offset = sector * SECTOR
        if kind == READ:
            return self._read(offset, _cut(chain.writable, 0, chain.room - 1))
        if kind == WRITE:
            return self._write(offset, _cut(chain.readable, HEADER.size, None))
        if kind == FLUSH:
            self.counts["flushes"] += 1
            self.disk.flush()
            return OK, 0
        if kind == GET_ID:
            pieces = Chain(chain.head, [], _cut(chain.writable, 0, min(20, chain.room - 1)))
            return OK, self.scatter(pieces, self._serial.ljust(20, b"\0"))
        return UNSUPPORTED, 0

    def _read(self, offset: int, pieces: list[tuple[int, int]]) -> tuple[int, int]:
        total = sum(size for _, size in pieces)
        if total % SECTOR or offset + total > self.disk.size:
            return IO_ERROR, 0
        for address, size in pieces:
            with self.bus.ram.view(address, size) as memory:
                self.disk.read(offset, memory)
            self.bus.forget_code(address, size)
            offset += size
        self.counts["reads"] += 1
        self.counts["read_bytes"] += total
        return OK, total

    def _write(self, offset: int, pieces: list[tuple[int, int]]) -> tuple[int, int]:
        total = sum(size for _, size in pieces)
        if total % SECTOR or offset + total > self.disk.size or self.disk.read_only:
            return IO_ERROR, 0
        for address, size in pieces:
            with self.bus.ram.view(address, size) as memory:
                self.disk.write(offset, memory)
            offset += size
        self.counts["writes"] += 1
        self.counts["written_bytes"] += total
        return OK, 0

    def _finish(self, chain: Chain, status: int, written: int) -> None:
        """The status is the last byte that the device may write."""
        last = [(address, size) for address, size in chain.writable if size]
        if last:
            address, size = last[-1]
            self.bus.ram.write(address + size - 1, bytes((status,)))
        self.give_back(0, chain, written + 1 if last else 0)


def _cut(pieces: list[tuple[int, int]], start: int, end: int | None) -> list[tuple[int, int]]:
    """The pieces that hold bytes `start` to `end` of all that the given ones hold."""
    found, place = [], 0
    for address, size in pieces:
        begin = max(start - place, 0)
        stop = size if end is None else min(end - place, size)
        if begin < stop:
            found.append((address + begin, stop - begin))
        place += size
    return found
