"""What has to survive a power cut. Source: fsync(2): a file's content and its name are made durable one by one."""

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Make the content of a file durable, whoever wrote it."""
    _sync(path, os.O_RDONLY)


def sync_directory(directory: Path) -> None:
    """Make a rename in this directory durable."""
    _sync(directory, os.O_RDONLY | os.O_DIRECTORY)


def sync_files(directory: Path) -> None:
    """Make the files of this directory durable, and that they are there."""
    for path in directory.iterdir():
        sync_file(path)
    sync_directory(directory)


def write_secret(path: Path, content: str) -> None:
    """Put a file there that nobody else may read, whole or not at all."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(content)
    sync_file(new)
    new.rename(path)
    sync_directory(path.parent)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
