"""Processes: which one is it, does it live, how did it end, what does it use.

A process is named by its pid and start time (field 22 of proc_pid_stat(5)), so that a reused pid is never taken for the
process that had it before.
"""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import folders

PIDFD_GET_INFO = 0xC0000000 | 64 << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, struct pidfd_info), 64 bytes; linux/pidfd.h
PIDFD_INFO_EXIT = 1 << 3  # Linux 6.15


@dataclass(frozen=True)
class Process:
    """A process by pid and start time (clock ticks after boot)."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    @property
    def started_at(self) -> float:
        """When it started, in seconds since the epoch."""
        match = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
        return int(match.group(1) if match else 0) + self.started / os.sysconf("SC_CLK_TCK")

    def file_limit(self) -> int | None:
        """The size in bytes of the largest file that it may write; None: any, or it has ended."""
        with contextlib.suppress(OSError):
            limits = Path(f"/proc/{self.pid}/limits").read_text()
            match = re.search(r"^Max file size +(\d+) ", limits, re.MULTILINE)
            return int(match.group(1)) if match and start_time(self.pid) == self.started else None
        return None

    def kill(self) -> None:
        """Kill it as by kill -9."""
        self._send(signal.SIGKILL)

    def end(self, seconds: float) -> None:
        """Ask it to end, and kill it after so many seconds. Returns once it has ended, or after as long again."""
        self._send(signal.SIGTERM)
        if not self.wait(seconds):
            self.kill()
            self.wait(seconds)

    def _send(self, sign: signal.Signals) -> None:
        """The pidfd makes sure that it is still this process."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive:
                    signal.pidfd_send_signal(handle, sign)
            finally:
                os.close(handle)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; False when it still lives after `seconds`."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive:
                return True
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(handle)


def start_time(pid: int) -> int | None:
    """When a process started; None when there is none or it is a zombie.

    A zombie with threads is none yet: they hold its files, locks and ports (proc_pid_stat(5), `num_threads`).
    """
    fields = _stat_fields(pid)
    return None if fields is None or (fields[0] in "ZX" and int(fields[17]) <= 1) else int(fields[19])


@dataclass(frozen=True)
class Usage:
    """What a process has used of the processors since it started, and what it holds of the memory."""

    cpu_seconds: float
    resident_mib: float


def usage(process: Process) -> Usage | None:
    """Read from one small file, so that it may be asked often. None when the process has ended."""
    fields = _stat_fields(process.pid)
    if fields is None or fields[0] in "ZX" or int(fields[19]) != process.started:
        return None
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))


def exit_words(process: Process, pidfd: int) -> str:
    """How a process that has ended did so, in words, as far as the kernel tells those who are not its parent.

    Before init has taken note of the end it is in /proc, afterwards in the pidfd (since Linux 6.15); "": in neither.
    """
    status = _zombie_status(process.pid)
    if status is None:
        status = _pidfd_status(pidfd)
    if status is None:
        return ""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exited with status {os.WEXITSTATUS(status)}"


def _zombie_status(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return int(fields[49]) if fields and fields[0] == "Z" else None


def _pidfd_status(pidfd: int) -> int | None:
    request = bytearray(struct.pack("<QQ", PIDFD_INFO_EXIT, 0) + bytes(48))
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, request)
    except OSError:
        return None
    is_told = struct.unpack_from("<Q", request)[0] & PIDFD_INFO_EXIT
    return int(struct.unpack_from("<i", request, 60)[0]) if is_told else None


def _stat_fields(pid: int) -> list[str] | None:
    """Fields 3 and following of proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def is_locked(path: Path) -> bool:
    """Whether some process holds this file's lock."""
    try:
        file = folders.open_file(path)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a file's lock, waiting for it; yields the descriptor."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def tail(path: Path, size: int = 2000) -> str:
    """The end of a text file, for telling why something failed."""
    with contextlib.suppress(OSError):
        return folders.read_end(path, size).decode(errors="replace").strip()
    return ""
