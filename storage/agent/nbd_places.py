"""What each server of an image (`storage.agent.nbd`) has for itself: a user, and a folder while it starts.

Places have numbers. A place is taken as long as somebody has its lock, which the server inherits: so it is free again
as soon as that has ended, whoever was killed meanwhile, and what is left in the folder of a free place is removed.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent import folders, jail
from agent.errors import Refused
from agent.paths import make_passable
from storage.agent.confined import HELPERS, SERVER

log = structlog.get_logger()

MAX_PLACES = 4096
BLOCK = 1 << 16  # users: the first block is for machines and confined programs, the next one for servers
SHARED = range(HELPERS, SERVER)  # in the first block, beyond those of machines: where there is no other one
FIRST_DESCRIPTOR = 10  # shells know numbers of one digit only


@dataclass(frozen=True)
class Place:
    """`lock`: a descriptor, for the server to inherit."""

    number: int
    folder: Path
    lock: int

    @property
    def uid(self) -> int:
        """Of no machine, of no other confined program, and of no other server; where the host has few users, of as few
        others as can be."""
        own = jail.first_uid() + BLOCK + self.number
        if jail.is_mapped(own):
            return own
        return jail.first_uid() + jail.UIDS + SHARED[min(self.number, len(SHARED) - 1)]


@contextlib.contextmanager
def taken(owner: Path) -> Iterator[Place]:
    """The first place that is free. `owner`: the home of the agent. Raises Refused, OSError."""
    directory = owner / "servers"
    make_passable(directory)
    for number in range(MAX_PLACES):
        with _locked(directory, number) as lock:
            if lock is None:
                continue
            place = Place(number, directory / str(number), lock)
            folders.remove(place.folder)  # left by who was killed
            folders.make_folder(place.folder, 0o711)
            try:
                yield place
            finally:
                folders.remove(place.folder)
            return
    raise Refused(f"all {MAX_PLACES} servers of images are in use on this host")


def sweep(owner: Path) -> None:
    """Remove what was left by who was killed: keys among it."""
    directory = owner / "servers"
    for name in folders.names(directory):
        if name.isdigit():
            with _locked(directory, int(name)) as lock:
                if lock is not None:
                    log.warning("removed what a killed worker left behind", folder=name)
                    folders.remove(directory / name)


@contextlib.contextmanager
def _locked(directory: Path, number: int) -> Iterator[int | None]:
    """The descriptor of a lock that is ours now; None: somebody has it."""
    opened = os.open(directory / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
    finally:
        os.close(opened)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock
    finally:
        os.close(lock)
