# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's memory. Every address that a device is given comes from the guest, so every access is checked here."""

import ctypes
import mmap
import os
import struct
from pathlib import Path
from typing import Any

from .files import write_all

BASE = 0x8000_0000
PAGE = mmap.PAGESIZE
CHUNK = 1 << 16


class BadAddress(Exception):
    """The guest named memory that is not there."""


class Ram:
    """`size` bytes from BASE on. With `file`: a private, copy-on-write view of a saved memory."""

    def __init__(self, size: int, file: Path | None = None) -> None:
        self.size = size
        self._is_view = file is not None
        if file is None:
            self.map = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_size != size:
                    raise ValueError(f"{file} does not hold {size} bytes")
                self.map = mmap.mmap(descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
            finally:
                os.close(descriptor)
        self._exported: Any = (ctypes.c_char * size).from_buffer(self.map)
        self.host_address = ctypes.addressof(self._exported)

    def close(self) -> None:
        """Give the memory back at once: nothing may hold its address any more."""
        self._exported = None
        self.map.close()

    def offset(self, address: int, size: int) -> int:
        """Where `size` bytes from `address` on begin in `map`. Raises BadAddress."""
        start = address - BASE
        if not 0 <= start <= start + size <= self.size:
            raise BadAddress(f"{size} bytes at {address:#x}")
        return start

    def read(self, address: int, size: int) -> bytes:
        start = self.offset(address, size)
        return self.map[start : start + size]

    def view(self, address: int, size: int) -> memoryview:
        """The memory itself, without a copy; to be let go of soon."""
        start = self.offset(address, size)
        return memoryview(self.map)[start : start + size]

    def write(self, address: int, content: bytes | memoryview) -> None:
        start = self.offset(address, len(content))
        self.map[start : start + len(content)] = content

    def read_u16(self, address: int) -> int:
        return int(struct.unpack_from("<H", self.map, self.offset(address, 2))[0])

    def read_u64(self, address: int) -> int:
        return int(struct.unpack_from("<Q", self.map, self.offset(address, 8))[0])

    def load(self, file: Path, address: int, limit: int) -> int:
        """Read a file of at most `limit` bytes into memory; its size. Raises BadAddress when it does not fit."""
        size = file.stat().st_size
        if size > limit:
            raise BadAddress(f"{file} of {size} bytes where {limit} fit")
        with file.open("rb") as source, self.view(address, size) as target:
            return source.readinto(target)  # type: ignore[attr-defined, no-any-return]

    def save(self, file: Path) -> int:
        """Write all of it to a file, leaving holes where it is zero; the bytes that were written. Raises OSError."""
        zeros, untouched, pages = bytes(CHUNK), bytes(CHUNK // PAGE), self._touched()
        written = 0
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, self.size)
            for start in range(0, self.size, CHUNK):
                page = start // PAGE
                if pages[page : page + len(untouched)] == untouched:
                    continue
                content = self.map[start : start + CHUNK]
                if content != zeros[: len(content)]:
                    write_all(descriptor, start, content)
                    written += len(content)
        finally:
            os.close(descriptor)
        return written

    def _touched(self) -> bytes:
        """A byte per page, zero for one that was never read or written; nothing where that cannot be told.

        To look at such a page would make the kernel map it: a second for 4 GiB. Source: Linux's
        Documentation/admin-guide/mm/pagemap.rst; the highest byte of an entry tells what is there.
        """
        if self._is_view:  # what was not touched is in the file
            return b""
        try:
            with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
                return os.pread(pagemap.fileno(), self.size // PAGE * 8, self.host_address // PAGE * 8)[7::8]
        except OSError:
            return b""
