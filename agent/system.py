"""The system that the agent runs on: its kernel, processor, boot and room."""

import os
import platform
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
RESERVED_SHARE = 0.1  # of the memory, for the host itself
MIN_RESERVED_MIB = 512
RESERVED_DISK_GIB = 2
MIN_FREE_BYTES = 1 << 30  # of the disk: what running guests may still write before it is full


@cache
def boot_id() -> str:
    """Differs after every boot of this host (random(4)). A container's host may boot without it: never mind."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def kernel() -> str:
    return platform.release()


@cache
def cpu_model() -> str:
    known_as = r"^(?:model name|Model|uarch|CPU part)\s*:\s*(.+)$"
    match = re.search(known_as, Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1).strip() if match else platform.machine()


def vcpus() -> int:
    return len(os.sched_getaffinity(0))


def memory_mib() -> int:
    """Memory for machines: what the host has, or its container may use, less a reserve."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    mib = total >> 20
    return mib - max(MIN_RESERVED_MIB, int(mib * RESERVED_SHARE))


class Room:
    """Disk room for resources in `home`: what is free plus the bytes that resources use already.

    Others write to the same filesystem, so the figure is steady: it follows when it is off by a twentieth.
    """

    def __init__(self, home: Path, used_bytes: Callable[[], int]) -> None:
        self._home, self._used_bytes = home, used_bytes
        self._steady: int | None = None

    def disk_gib(self) -> int:
        now = max(0, ((shutil.disk_usage(self._home).free + self._used_bytes()) >> 30) - RESERVED_DISK_GIB)
        if self._steady is None or abs(now - self._steady) * 20 > self._steady:
            self._steady = now
        return self._steady

    def capacity(self) -> dict[str, Any]:
        return {"vcpus": vcpus(), "memory_mib": memory_mib(), "disk_gib": self.disk_gib()}
