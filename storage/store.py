"""The store of image files, each under its SHA-256; and the folder where what is sent is collected first."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from cloud.outgoing import Source
from cloud.problems import Unavailable

if TYPE_CHECKING:
    from storage.buckets import Bucket

SHA256 = re.compile(r"[0-9a-f]{64}")


class StoreAway(Unavailable):
    """A store does not serve at the moment. As a string: why, and what an operator can do about it."""

    def __init__(self, why: str) -> None:
        words = "The cloud's store of files does not answer at the moment. Nothing is lost: try again later."
        super().__init__(words, headers={"Retry-After": "10"})
        self.why = why

    def __str__(self) -> str:
        return self.why


class Store(Protocol):
    """Where files are. Nothing changes in it but whole files that come and go. Raises StoreAway, OSError."""

    def has(self, sha256: str) -> bool: ...

    def keep(self, source: Path, sha256: str) -> None:
        """Take a file in, which has that sum and is durable, and is gone from where it was. Twice does no harm."""

    def open(self, sha256: str) -> Source:
        """Raises FileNotFoundError."""

    def remove(self, sha256: str) -> None: ...

    def names(self) -> Iterator[tuple[str, float]]:
        """Every file's SHA-256, and when it was last taken in: seconds since the epoch."""


class Directory:
    """A folder that every web process sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, sha256: str) -> bool:
        return (self.folder / sha256).is_file()

    def keep(self, source: Path, sha256: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        source.chmod(0o644)
        try:
            source.rename(self.folder / sha256)
        except OSError:  # the folder of uploads is on another file system
            partial = self.folder / f".{sha256}.{os.getpid()}"
            shutil.copyfile(source, partial)
            _sync(partial)
            partial.rename(self.folder / sha256)
            source.unlink(missing_ok=True)
        os.utime(self.folder / sha256)
        _sync(self.folder)

    def open(self, sha256: str) -> Source:
        return (self.folder / sha256).open("rb")

    def remove(self, sha256: str) -> None:
        (self.folder / sha256).unlink(missing_ok=True)

    def names(self) -> Iterator[tuple[str, float]]:
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if SHA256.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.stat().st_mtime


def store() -> Store:
    """The one that the settings name."""
    if is_bucket(settings.IMAGE_STORE):
        beside: Store = import_string("storage.shipping.Shipping")(bucket(settings.IMAGE_STORE), incoming() / "waiting")
        return beside
    return Directory(Path(settings.IMAGE_STORE))


def is_bucket(place: Path | str) -> bool:
    return str(place).startswith("s3://")


def bucket(address: Path | str) -> "Bucket":
    """The bucket of an address. Imported only here: see there."""
    found: Bucket = import_string("storage.buckets.Bucket")(str(address))
    return found


def incoming() -> Path:
    """The folder of what is being sent. Every web process, and every control worker, sees the same one."""
    return Path(settings.IMAGE_UPLOADS or Path(settings.IMAGE_STORE) / "uploads")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
