"""What has to survive a power cut. Source: fsync(2): a file's content and its name are made durable one by one."""

import os
from pathlib import Path

from agent import folders


def sync_file(path: Path) -> None:
    """Make the content of a file durable, whoever wrote it."""
    handle = folders.open_file(path)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(directory: Path) -> None:
    """Make a rename in this directory durable."""
    with folders.opened(directory) as handle:
        os.fsync(handle)


def sync_files(directory: Path) -> None:
    """Make the files of this directory durable, and that they are there."""
    for name in folders.names(directory):
        sync_file(directory / name)
    sync_directory(directory)


def write_secret(path: Path, content: str) -> None:
    """Atomically write a file that only its owner may read."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with folders.create_file(new) as file:
        file.write(content.encode())
    sync_file(new)
    new.rename(path)
    sync_directory(path.parent)
