"""Serial logs: kept small on disk without losing an end of them, and their ends pushed to the control plane.

QEMU appends a machine's serial output to one file without limit. The agent frees the beginning of the file by punching
a hole, so a byte's offset in the file is its offset in all output of the machine, nothing is copied, and no output is
lost while the agent is away.
"""

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from agent import folders
from agent.control_plane import ControlPlane
from agent.errors import Refused, Unreachable
from agent.ledger import Ledger
from compute.agent.homes import Homes
from compute.agent.records import TYPE

log = structlog.get_logger()

MAX_PUSHED_BYTES = 64 << 10
MIN_KEPT_BYTES = 256 << 10
MAX_BYTES_ON_DISK = 1 << 20
SECONDS_AFTER_FAILURE = 5.0
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


def trim(path: Path) -> int:
    """Give the beginning of a long file back to the filesystem; the bytes that were freed. Raises OSError."""
    handle = folders.open_file(path, os.O_RDWR)
    try:
        before = os.fstat(handle)
        if before.st_blocks * 512 <= MAX_BYTES_ON_DISK:
            return 0
        length = ctypes.c_long(before.st_size - MIN_KEPT_BYTES)
        if _libc.fallocate(handle, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, ctypes.c_long(0), length) != 0:
            raise OSError(ctypes.get_errno(), "cannot punch holes on this filesystem")
        return max(0, before.st_blocks - os.fstat(handle).st_blocks) * 512
    finally:
        os.close(handle)


def read_end(path: Path, limit: int = MAX_PUSHED_BYTES) -> tuple[bytes, int]:
    """The file's last bytes and the offset of the first of them."""
    handle = folders.open_file(path)
    try:
        offset = max(0, os.fstat(handle).st_size - limit)
        return os.pread(handle, limit, offset), offset
    finally:
        os.close(handle)


class ConsoleLogs:
    """All serial logs of this host. `freed` hears how many bytes of a machine's log were given back."""

    def __init__(
        self, homes: Homes, ledger: Ledger, control_plane: ControlPlane, freed: Callable[[str, int], None]
    ) -> None:
        self._homes = homes
        self._ledger = ledger
        self._control_plane = control_plane
        self._freed = freed
        self._pushed: dict[str, int] = {}  # size of the log when its end was last pushed
        self._not_before = 0.0

    def push_changed(self) -> None:
        """Push the ends of logs that changed since the last time."""
        sizes = {}
        for entry in self._ledger.entries(TYPE):
            self._keep_small(entry.id)
            if status := folders.status(self._homes.of(entry.id).console_log):
                sizes[entry.id] = status.st_size
        self._pushed = {machine_id: size for machine_id, size in self._pushed.items() if machine_id in sizes}
        for machine_id, size in sizes.items():
            if size and self._pushed.get(machine_id) != size:
                self._push(machine_id)

    def _push(self, machine_id: str) -> None:
        if time.monotonic() < self._not_before:
            return
        try:
            content, offset = read_end(self._homes.of(machine_id).console_log)
            self._control_plane.tell(
                "PUT",
                f"/agent/v1/console-logs/{machine_id}",
                content=content,
                headers={"X-Log-Offset": str(offset), "Content-Type": "application/octet-stream"},
                ignored=(404, 409),
            )
            self._pushed[machine_id] = offset + len(content)
        except Unreachable:
            self._not_before = time.monotonic() + SECONDS_AFTER_FAILURE
        except OSError as problem:
            log.warning("cannot read a console log", machine=machine_id, problem=str(problem))

    def _keep_small(self, machine_id: str) -> None:
        home = self._homes.of(machine_id)
        for path in (home.console_log, home.emulator_log):
            try:
                if (status := folders.status(path)) and status.st_blocks * 512 > MAX_BYTES_ON_DISK:
                    self._freed(machine_id, trim(path))
            except (OSError, Refused) as problem:
                log.warning("cannot trim a log", machine=machine_id, log=path.name, problem=str(problem))
