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
from agent.kinds import Problem
from agent.paths import Paths, make_passable
from agent.system import MIN_FREE_BYTES
from agent.work import Work
from storage.agent.fetch import Fetch

log = structlog.get_logger()

MAX_PAUSE = 15.0
NAME = re.compile("[0-9a-f]{64}")
SECONDS_KEPT_UNUSED = 7 * 24 * 3600
SECONDS_VERIFIED = 24 * 3600.0
SECONDS_TO_VERIFY = 30.0  # at a time

faults.declare("cache.before_rename")


class ImageCache:
    """The cache, filled from the control plane or from other hosts.

    `is_used`: whether anything on this host may need the file. `problems`: where it adds what it found to be damaged,
    for the health page.
    """

    def __init__(
        self, paths: Paths, control_plane: ControlPlane, is_used: Callable[[str], bool], problems: list[Problem]
    ) -> None:
        self.directory = paths.home / "images"
        make_passable(self.directory)
        self._locks = paths.locks
        self._control_plane = control_plane
        self._is_used = is_used
        self._verified: dict[str, float] = {}  # when each file was read last and was right, by the monotonic clock
        self.problems = problems

    def fetch(self, file: dict[str, Any], work: Work) -> Path:
        """The file's path, after a download if it must be. Raises Refused or Abandoned."""
        sha256 = str(file["sha256"])
        if not NAME.fullmatch(sha256):
            raise Refused(f"{sha256!r} is not a sha256")
        path = self.directory / sha256
        pause = 1.0
        while True:
            with self._turn(sha256, work):
                try:
                    if path.exists() and path.stat().st_size != int(file["size"]):
                        self._throw_away(path)
                    if not path.exists():
                        self._download(file, path, work)
                    os.utime(path)
                    return path
                except Unreachable:
                    work.sleep(pause)
                    pause = min(pause * 2, MAX_PAUSE)

    def let_go(self, unused_seconds: float = SECONDS_KEPT_UNUSED) -> None:
        """Remove files that are unused and were not requested lately."""
        for path in self.directory.iterdir():
            with contextlib.suppress(BlockingIOError), self._lock(path.stem):
                if path.stat().st_mtime <= time.time() - unused_seconds and not self._is_used(path.stem):
                    path.unlink()
                    log.info("let go of an image file", sha256=path.stem)

    def usage(self) -> dict[str, int]:
        """{"files", "bytes"}: how much of the host's disk it takes."""
        found = [path.stat() for path in self.directory.iterdir()]
        return {"files": len(found), "bytes": sum(one.st_blocks * 512 for one in found)}

    def verify(self, seconds: float = SECONDS_TO_VERIFY) -> None:
        """Read files that were not read for a day, those first that were not for longest, until the time is up.

        One that is not what its name says is thrown away: it is downloaded again when it is wanted.
        """
        deadline = time.monotonic() + seconds
        names = [path.name for path in self.directory.iterdir() if NAME.fullmatch(path.name)]
        self._verified = {name: when for name, when in self._verified.items() if name in names}
        for name in sorted(names, key=lambda name: self._verified.get(name, 0.0)):
            now = time.monotonic()
            if now > deadline or now - self._verified.get(name, -SECONDS_VERIFIED) < SECONDS_VERIFIED:
                break
            self.check(name)

    def check(self, name: str) -> None:
        """Read one file, if it is here and nobody is busy with it; throw it away if it is not what its name says."""
        if not NAME.fullmatch(name):
            return
        with contextlib.suppress(BlockingIOError, FileNotFoundError), self._lock(name):
            with (self.directory / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            self._verified[name] = time.monotonic()
            if found != name:
                self._throw_away(self.directory / name)

    def _throw_away(self, path: Path) -> None:
        log.error("an image file was damaged", sha256=path.name)
        told = (
            f"the image file {path.name[:12]}… was damaged and is fetched again when it is needed. Machines that "
            "were started from it before may have read wrong data: check the host's disk"
        )
        problem = {"what": "image cache", "problem": told}
        if problem not in self.problems:
            self.problems.append(problem)
        path.unlink()

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
        """Raises BlockingIOError while another process holds it."""
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
        fetch = Fetch(self._control_plane, path.name, size, part, work)
        try:
            fetch.run()
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.chmod(0o444)
        faults.reach("cache.before_rename")
        part.rename(path)
        fetch.tell_done()
