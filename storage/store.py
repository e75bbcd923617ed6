"""The store of image files, each under its SHA-256; and the folder where what is sent is collected first."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from django.conf import settings

SHA256 = re.compile(r"[0-9a-f]{64}")


class Store(Protocol):
    """Where files are. Nothing changes in it but whole files that come and go. Raises OSError when it is away."""

    def has(self, sha256: str) -> bool: ...

    def keep(self, source: Path, sha256: str) -> None:
        """Take a file in, which has that sum and is durable, and is gone from where it was. Twice does no harm."""

    def open(self, sha256: str) -> BinaryIO:
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

    def open(self, sha256: str) -> BinaryIO:
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
    return Directory(settings.IMAGE_STORE)


def incoming() -> Path:
    """The folder of what is being sent. Every web process sees the same one."""
    return Path(settings.IMAGE_UPLOADS or settings.IMAGE_STORE / "uploads")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
