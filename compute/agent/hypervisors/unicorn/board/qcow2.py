# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks in the qcow2 format, version 3, as far as Pileus makes them: one file, no snapshots, no encryption.

Source: QEMU's docs/interop/qcow2.txt. A backing file named *in* an image is never opened: an image may come from
anybody, so the base is told from outside. Reference counts are lazy: while a disk is open the file is marked dirty and
nothing is counted; closing it counts, and opening a dirty file (its emulator was killed) finds out by itself what is in
use. The order of writes keeps what a guest has flushed: data first, then the tables that lead to it.
"""

import array
import os
import struct
import sys
import zlib

from .block import Disk
from .files import read_all, write_all

MAGIC = 0x514649FB
CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
ENTRIES = CLUSTER // 8  # of a level-2 table
HEADER = struct.Struct(">IIQIIQIIQQIIQQQQII")
HEADER_SIZE = 104
DIRTY = 1
COPIED, COMPRESSED = 1 << 63, 1 << 62
ZERO = 1
ADDRESS = (1 << 56) - 512
REFERENCES_PER_BLOCK = CLUSTER // 2
TABLES_KEPT = 64
CHUNKS_KEPT = 32
MAX_SIZE = 64 << 40


class Unsupported(ValueError):
    """An image with something that is not read here."""


class Qcow2:
    """A disk in an open file. Raises OSError, or Unsupported for what Pileus does not make; the file is closed then."""

    def __init__(self, file: int, *, read_only: bool, base: Disk | None = None) -> None:
        self.read_only = read_only
        self._base = base
        self._file = file
        self._tables: dict[int, array.array[int]] = {}  # level 2, by index in level 1
        self._changed: set[int] = set()  # of those, what is not in the file yet
        self._level_1_changed = False
        self._chunks: dict[int, bytes] = {}  # unpacked clusters of a compressed image, the last ones used
        try:
            self._read_header(os.pread(self._file, 4096, 0))
            self._end = -(-os.fstat(self._file).st_size // CLUSTER) * CLUSTER
            if not read_only:
                self._free = []
                if self._dirty:
                    self._free = self._find_unused()
                else:
                    self._mark_dirty(True)
        except BaseException:
            os.close(self._file)
            raise

    def _read_header(self, content: bytes) -> None:
        if len(content) < HEADER_SIZE or struct.unpack_from(">I", content)[0] != MAGIC:
            raise Unsupported("not a qcow2 image")
        fields = HEADER.unpack_from(content)
        _, version, _, _, cluster_bits, self.size, encryption, level_1, level_1_at = fields[:9]
        self._references_at, reference_clusters, snapshots = fields[9:12]
        incompatible, order = fields[13], fields[16]
        if version == 2:
            incompatible, order = 0, 4
        if version not in (2, 3) or cluster_bits != CLUSTER_BITS or encryption or snapshots or order != 4:
            raise Unsupported("a qcow2 image of another kind than Pileus makes")
        if incompatible & ~DIRTY or not 0 < self.size <= MAX_SIZE or self.size % 512:
            raise Unsupported("a qcow2 image with features or of a size that Pileus does not use")
        if level_1 < -(-self.size // (CLUSTER * ENTRIES)) or level_1 > MAX_SIZE // (CLUSTER * ENTRIES):
            raise Unsupported("a qcow2 image whose table does not cover its size")
        if reference_clusters > 64 or (not self.read_only and version != 3):
            raise Unsupported("a qcow2 image with a table of reference counts that Pileus does not make")
        self._dirty = bool(incompatible & DIRTY)
        self._level_1_at = level_1_at
        self._level_1 = _words(self._pread(level_1_at, level_1 * 8))
        self._reference_table_size = reference_clusters * CLUSTER

    # Reading

    def read(self, offset: int, into: memoryview) -> None:
        place = 0
        while place < len(into):
            start = offset + place
            within = start % CLUSTER
            size = min(CLUSTER - within, len(into) - place)
            self._read_within(start // CLUSTER, within, into[place : place + size])
            place += size

    def _read_within(self, cluster: int, within: int, into: memoryview) -> None:
        entry = self._entry(cluster)
        if entry & COMPRESSED:
            into[:] = self._unpack(entry)[within : within + len(into)]
        elif entry & ZERO:
            into[:] = bytes(len(into))
        elif address := entry & ADDRESS:
            read_all(self._file, address + within, into)
        else:
            self._read_base(cluster * CLUSTER + within, into)

    def _read_base(self, offset: int, into: memoryview) -> None:
        """What the base holds; zeros beyond its end."""
        there = max(0, min(len(into), self._base.size - offset)) if self._base else 0
        if self._base and there:
            self._base.read(offset, into[:there])
        into[there:] = bytes(len(into) - there)

    def _unpack(self, entry: int) -> bytes:
        """A compressed cluster: address in the low bits, then the number of further sectors that hold it."""
        chunk = self._chunks.pop(entry, None)
        if chunk is None:
            shift = 62 - (CLUSTER_BITS - 8)
            address = entry & (1 << shift) - 1
            sectors = (entry >> shift & (1 << CLUSTER_BITS - 8) - 1) + 1
            packed = os.pread(self._file, sectors * 512 - address % 512, address)
            try:
                chunk = zlib.decompressobj(-12).decompress(packed, CLUSTER)
            except zlib.error as error:
                raise OSError(5, f"a damaged cluster: {error}") from error
            if len(chunk) != CLUSTER:
                raise OSError(5, "a damaged cluster")
            if len(self._chunks) >= CHUNKS_KEPT:
                del self._chunks[next(iter(self._chunks))]
        self._chunks[entry] = chunk
        return chunk

    # Writing

    def write(self, offset: int, content: memoryview) -> None:
        place = 0
        while place < len(content):
            start = offset + place
            within = start % CLUSTER
            size = min(CLUSTER - within, len(content) - place)
            self._write_within(start // CLUSTER, within, content[place : place + size])
            place += size

    def _write_within(self, cluster: int, within: int, content: memoryview) -> None:
        entry = self._entry(cluster)
        address = entry & ADDRESS
        if entry & COPIED and address and not entry & (COMPRESSED | ZERO):
            write_all(self._file, address + within, content)
            return
        whole = memoryview(bytearray(CLUSTER))
        if len(content) < CLUSTER:
            self._read_within(cluster, 0, whole)
        whole[within : within + len(content)] = content
        address = self._take_cluster()
        try:
            write_all(self._file, address, whole)
        except OSError:
            self._free.append(address)
            raise
        index = cluster // ENTRIES
        self._table(index)[cluster % ENTRIES] = address | COPIED
        self._changed.add(index)

    def _take_cluster(self) -> int:
        if self._free:
            return self._free.pop()
        self._end += CLUSTER
        return self._end - CLUSTER

    def flush(self) -> None:
        """Make durable what was written, in an order in which no table leads to what is not there. Raises OSError."""
        if self.read_only:
            return
        os.fdatasync(self._file)
        if not self._changed:
            return
        for index in sorted(self._changed):
            if not self._level_1[index]:
                address = self._take_cluster()
                write_all(self._file, address, _big_endian(self._tables[index]))
                self._level_1[index] = address | COPIED
                self._level_1_changed = True
            else:
                write_all(self._file, self._level_1[index] & ADDRESS, _big_endian(self._tables[index]))
        os.fdatasync(self._file)
        if self._level_1_changed:
            write_all(self._file, self._level_1_at, _big_endian(self._level_1))
            os.fdatasync(self._file)
            self._level_1_changed = False
        self._changed.clear()

    def close(self) -> None:
        """Write out everything, count references, and say that the file is clean. Raises OSError."""
        if not self.read_only:
            self.flush()
            self._count_references()
            os.fdatasync(self._file)
            self._mark_dirty(False)
        os.close(self._file)
        if self._base:
            self._base.close()

    # Tables

    def _entry(self, cluster: int) -> int:
        return self._table(cluster // ENTRIES)[cluster % ENTRIES]

    def _table(self, index: int) -> "array.array[int]":
        table = self._tables.get(index)
        if table is None:
            if len(self._tables) >= TABLES_KEPT:
                self._drop_one_table()
            address = self._level_1[index] & ADDRESS
            table = _words(self._pread(address, CLUSTER)) if address else array.array("Q", bytes(CLUSTER))
            self._tables[index] = table
        return table

    def _drop_one_table(self) -> None:
        for index in self._tables:
            if index not in self._changed:
                del self._tables[index]
                return

    def _pread(self, address: int, size: int) -> bytes:
        content = os.pread(self._file, size, address)
        return content + bytes(size - len(content))

    # Reference counts

    def _mark_dirty(self, dirty: bool) -> None:
        """The first incompatible feature; durable before anything else is written."""
        os.pwrite(self._file, struct.pack(">Q", DIRTY if dirty else 0), 72)
        os.fdatasync(self._file)

    def _used_clusters(self) -> set[int]:
        """Every cluster that something leads to."""
        used = {0, *_range(self._level_1_at, len(self._level_1) * 8)}
        used.update(_range(self._references_at, self._reference_table_size))
        used.update(block // CLUSTER for block in self._reference_blocks() if block)
        for index, entry in enumerate(self._level_1):
            if not entry & ADDRESS and index not in self._tables:
                continue
            if entry & ADDRESS:
                used.add((entry & ADDRESS) // CLUSTER)
            for data in self._tables.get(index) or _words(self._pread(entry & ADDRESS, CLUSTER)):
                if data & COMPRESSED:
                    raise Unsupported("a compressed image cannot be written to")
                if data & ADDRESS:
                    used.add((data & ADDRESS) // CLUSTER)
        return used

    def _find_unused(self) -> list[int]:
        """Clusters that an emulator which was killed had taken, and that nothing leads to."""
        used = self._used_clusters()
        return [number * CLUSTER for number in range(self._end // CLUSTER - 1, 0, -1) if number not in used]

    def _reference_blocks(self) -> "array.array[int]":
        return _words(self._pread(self._references_at, self._reference_table_size))

    def _count_references(self) -> None:
        """Write all reference counts: one for what is used, none for the rest."""
        blocks = self._reference_blocks()
        while True:  # a new block of counts is itself counted
            needed = -(-self._end // CLUSTER // REFERENCES_PER_BLOCK) or 1
            missing = [number for number in range(needed) if not blocks[number]]
            if not missing:
                break
            for number in missing:
                blocks[number] = self._take_cluster()
        write_all(self._file, self._references_at, _big_endian(blocks))
        unused = {address // CLUSTER for address in self._free}
        for number in range(needed):
            first = number * REFERENCES_PER_BLOCK
            last = min(first + REFERENCES_PER_BLOCK, self._end // CLUSTER)
            counts = b"".join(b"\0\0" if cluster in unused else b"\0\1" for cluster in range(first, last))
            write_all(self._file, blocks[number], counts.ljust(CLUSTER, b"\0"))
        os.ftruncate(self._file, self._end)


def _range(address: int, size: int) -> range:
    return range(address // CLUSTER, -(-(address + size) // CLUSTER))


def _words(content: bytes) -> "array.array[int]":
    words = array.array("Q", content)
    if sys.byteorder == "little":
        words.byteswap()
    return words


def _big_endian(words: "array.array[int]") -> bytes:
    copy = array.array("Q", words)
    if sys.byteorder == "little":
        copy.byteswap()
    return copy.tobytes()
