"""Image files on this host, each under its own sha256. Nothing enters but what has that sum.

A file is written beside its place, checked, made durable and then renamed, under a lock shared by all who want it.
What nothing here uses is let go: a week after it was last asked for, or when a download needs the room.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from agent import faults
from agent.control_plane import ControlPlane
from agent.errors import Refused, Unreachable
from agent.paths import Paths, make_passable
from agent.system import MIN_FREE_BYTES
from agent.work import Work

log = structlog.get_logger()

MAX_PAUSE = 15.0
SECONDS_KEPT_UNUSED = 7 * 24 * 3600

faults.declare("cache.before_rename")


class ImageCache:
    """The cache, filled from the control plane. `is_used`: whether anything on this host may need the file."""

    def __init__(self, paths: Paths, control_plane: ControlPlane, is_used: Callable[[str], bool]) -> None:
        self.directory = paths.home / "images"
        make_passable(self.directory)
        self._locks = paths.locks
        self._control_plane = control_plane
        self._is_used = is_used

    def fetch(self, file: dict[str, Any], work: Work) -> Path:
        """The file's path, after a download if it must be. Raises Refused or Abandoned."""
        sha256 = str(file["sha256"])
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise Refused(f"{sha256!r} is not a sha256")
        path = self.directory / sha256
        pause = 1.0
        while True:
            with self._turn(sha256, work):
                try:
                    if not path.exists():
                        self._download(file, path, work)
                    os.utime(path)
                    return path
                except Unreachable:
                    work.sleep(pause)
                    pause = min(pause * 2, MAX_PAUSE)

    def let_go(self, unused_seconds: float = SECONDS_KEPT_UNUSED) -> None:
        """Remove files that nothing here uses and that nobody has asked for lately."""
        for path in self.directory.iterdir():
            with contextlib.suppress(BlockingIOError), self._lock(path.stem):
                if path.stat().st_mtime <= time.time() - unused_seconds and not self._is_used(path.stem):
                    path.unlink()
                    log.info("let go of an image file", sha256=path.stem)

    @contextlib.contextmanager
    def _turn(self, sha256: str, work: Work) -> Iterator[None]:
        """Wait for one's turn, in a way that can be abandoned."""
        while True:
            work.check()
            with contextlib.ExitStack() as held:
                try:
                    held.enter_context(self._lock(sha256))
                except BlockingIOError:
                    work.sleep(0.1)
                    continue
                yield
                return

    @contextlib.contextmanager
    def _lock(self, sha256: str) -> Iterator[None]:
        """Raises BlockingIOError while somebody else has it."""
        lock = os.open(self._locks / f"{sha256}.image", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(lock)

    def _free(self) -> int:
        return shutil.disk_usage(self.directory).free

    def _download(self, file: dict[str, Any], path: Path, work: Work) -> None:
        size = int(file["size"])
        if self._free() - size < MIN_FREE_BYTES:
            self.let_go(unused_seconds=0)
        free = self._free()
        if free - size < MIN_FREE_BYTES:
            raise Refused(f"the host's disk has no room for an image of {size >> 20} MiB: {free >> 20} MiB are free")
        part = path.with_suffix(".part")
        digest, received = hashlib.sha256(), 0
        with (
            self._control_plane.download(f"/agent/v1/files/{path.name}", f"image file {path.name}") as pieces,
            part.open("wb") as target,
        ):
            for piece in pieces:
                work.check()
                received += len(piece)
                if received > size:
                    break
                digest.update(piece)
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        if received != size or digest.hexdigest() != path.name:
            part.unlink()
            # Cut short or altered on the way: as good as no answer.
            raise Unreachable(f"{path.name}: received {received} of {size} bytes, or other bytes")
        part.chmod(0o444)
        faults.reach("cache.before_rename")
        part.rename(path)
