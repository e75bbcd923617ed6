"""A bucket as the store of images, with a folder beside it where files wait until they have been brought there.

What is taken in is durable in the folder, and counts as stored. A control worker sends it to the bucket, in parts: no
thread of web waits for that, and nothing fails while the bucket is away. A file stays in the folder for a while after
it was sent: a removal of the same content that the bucket obeys late would be noticed, and the file sent again.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from cloud.outgoing import Source
from storage.store import SHA256, Directory

if TYPE_CHECKING:
    from storage.buckets import Bucket

log = structlog.get_logger(__name__)

SECONDS_KEPT_AFTER = 120.0


class Shipping:
    """The store (see `Store`) that is a bucket."""

    def __init__(self, bucket: "Bucket", folder: Path) -> None:
        self.bucket, self.waiting = bucket, Directory(folder)

    def has(self, sha256: str) -> bool:
        return self.waiting.has(sha256) or self.bucket.size(sha256) is not None

    def keep(self, source: Path, sha256: str) -> None:
        self.waiting.keep(source, sha256)

    def open(self, sha256: str) -> Source:
        try:
            return self.waiting.open(sha256)
        except FileNotFoundError:
            return self.bucket.open(sha256)

    def remove(self, sha256: str) -> None:
        self.waiting.remove(sha256)
        self.bucket.remove(sha256)

    def names(self) -> Iterator[tuple[str, float]]:
        waiting = dict(self.waiting.names())
        yield from waiting.items()
        for name, came in self.bucket.files():
            if SHA256.fullmatch(name) and name not in waiting:
                yield name, came

    def unsent(self, older_than: float) -> list[str]:
        """What waits since before that, in seconds since the epoch."""
        return [name for name, came in self.waiting.names() if came < older_than]

    def ship(self) -> int:
        """Bring to the bucket what waits, the oldest first; how many files that were. Raises StoreAway, OSError."""
        shipped, altered = 0, None
        with self._alone() as alone:
            for name, came in sorted(self.waiting.names(), key=lambda found: found[1]) if alone else ():
                try:
                    shipped += self._ship(name, came)
                except FileNotFoundError:  # removed meanwhile
                    continue
                except OSError as problem:
                    log.error("store.not_shipped", sha256=name, problem=str(problem))
                    altered = problem
        if altered:
            raise altered
        return shipped

    def _ship(self, name: str, came: float) -> bool:
        path = self.waiting.folder / name
        if self.bucket.size(name) == path.stat().st_size:
            if came < time.time() - SECONDS_KEPT_AFTER:
                path.unlink()
            return False
        self.bucket.upload(name, path, name)
        if not path.exists():  # removed while it was sent
            self.bucket.remove(name)
            return False
        os.utime(path)
        log.info("store.shipped", sha256=name)
        return True

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nobody else ships at the moment: two would send the same."""
        self.waiting.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.waiting.folder / ".shipping", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _locked(lock)
        finally:
            os.close(lock)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
