# SPDX-License-Identifier: GPL-2.0-or-later
"""Releases the memory of translated code when a guest becomes idle: half of what its process would hold.

The engine keeps its translations in one large mapping that may be written to and executed, with its own entry code at
the beginning, and reuses it only once it is full. Source: Linux's proc(5), madvise(2).
"""

import ctypes
import time
from collections.abc import Iterator

MADV_DONTNEED, MADV_NOHUGEPAGE = 4, 15
ENTRY_CODE = 1 << 16  # what the engine itself keeps there
MIN_BLOCK = 8 << 20
WINDOW_SECONDS = 10.0
IDLE_SHARE = 0.05  # of a processor


class Thrift:
    """Says when a guest has become idle: once, after it was busy."""

    def __init__(self) -> None:
        self._began, self._used = time.monotonic(), time.process_time()
        self._was_busy = True

    def has_become_idle(self) -> bool:
        now, used = time.monotonic(), time.process_time()
        if now - self._began < WINDOW_SECONDS:
            return False
        is_busy = (used - self._used) / (now - self._began) > IDLE_SHARE
        self._began, self._used = now, used
        became_idle = self._was_busy and not is_busy
        self._was_busy = is_busy
        return became_idle


def give_back() -> int:
    """Release the pages of translations that the engine has just dropped; returns the bytes of address space."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    total = 0
    for begin, end in _executable_mappings():
        if end - begin < MIN_BLOCK:
            continue
        # An idle guest still runs a few scattered pages; huge pages would keep 2 MiB around each.
        libc.madvise(begin, end - begin, MADV_NOHUGEPAGE)
        if libc.madvise(begin + ENTRY_CODE, end - begin - ENTRY_CODE, MADV_DONTNEED) == 0:
            total += end - begin - ENTRY_CODE
    libc.malloc_trim(0)  # the engine's own records of them
    return total


def _executable_mappings() -> Iterator[tuple[int, int]]:
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, permissions, _, _, inode = line.split()[:5]
            if permissions == "rwxp" and inode == "0":
                begin, end = (int(address, 16) for address in addresses.split("-"))
                yield begin, end
