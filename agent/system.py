"""The system that the agent runs on: its kernel, processor, boot and room."""

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
CGROUPS = Path("/sys/fs/cgroup")
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
    """Processors for machines: those that this process may run on, or as many as its container may use, rounded up."""
    count = len(os.sched_getaffinity(0))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):  # "max", or no such file
            quota, period = (int(word) for file in files for word in (CGROUPS / file).read_text().split())
            if quota > 0:
                count = min(count, -(-quota // period))
    return count


def memory_mib() -> int:
    """Memory for machines: what the host has, or its container may use, less a reserve."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            total = min(total, int((CGROUPS / limit).read_text()))
        except (OSError, ValueError):
            continue
    mib = total >> 20
    return mib - max(MIN_RESERVED_MIB, int(mib * RESERVED_SHARE))


def room(directory: Path) -> int:
    """Bytes of the file system that a directory is on, used and free, without what it keeps for itself."""
    disk = shutil.disk_usage(directory)
    return disk.used + disk.free


class Load:
    """How busy this machine is, with everything that runs on it: also what is no resource of the cloud.

    `now` gives the share of its processors since the last call, and what is used of its memory and of the file system
    that `home` is on. In a container it is the load of the machine below.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._before = _processor_ticks()

    def now(self) -> dict[str, float]:
        ticks = _processor_ticks()
        busy, total = (after - before for before, after in zip(self._before, ticks, strict=True))
        self._before = ticks
        memory = _memory()
        disk = shutil.disk_usage(self._home)
        return {
            "cpu_percent": round(100 * busy / total, 1) if total > 0 else 0.0,
            "memory_mib": (memory["MemTotal"] - memory["MemAvailable"]) >> 10,
            "memory_total_mib": memory["MemTotal"] >> 10,
            "disk_gib": round(disk.used / (1 << 30), 1),
            "disk_total_gib": round((disk.used + disk.free) / (1 << 30), 1),
        }


def _processor_ticks() -> tuple[int, int]:
    """How long the processors were busy, and how long there are (proc_stat(5)); guests' time is within the user's."""
    user, nice, system, idle, waiting, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    )
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + waiting


def _memory() -> dict[str, int]:
    """/proc/meminfo, in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


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
