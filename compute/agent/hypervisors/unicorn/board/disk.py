# SPDX-License-Identifier: GPL-2.0-or-later
"""What is behind a block device: a raw file, or a qcow2 overlay over a read-only base. The format is always told."""

import os
from typing import Any

from .block import Disk
from .files import read_all, write_all
from .qcow2 import Qcow2


class Raw:
    """A file whose bytes are the disk's, in whole sectors."""

    def __init__(self, file: int, *, read_only: bool) -> None:
        self.read_only = read_only
        self._file = file
        # A file that ends within a sector is a disk that ends there too, filled up with zeros.
        self.size = os.fstat(self._file).st_size + 511 & ~511

    def read(self, offset: int, into: memoryview) -> None:
        read_all(self._file, offset, into)

    def write(self, offset: int, content: memoryview) -> None:
        write_all(self._file, offset, content)

    def flush(self) -> None:
        if not self.read_only:
            os.fdatasync(self._file)

    def close(self) -> None:
        self.flush()
        os.close(self._file)


def open_disk(description: dict[str, Any]) -> Disk:
    """{"descriptor" | "path", "format": "raw"|"qcow2", "read_only", "base": null | {…}}. Raises OSError or ValueError.

    A descriptor is of the open file; it is closed with the disk.
    """
    read_only = bool(description.get("read_only"))
    base = description.get("base")
    if description["format"] not in ("raw", "qcow2") or (description["format"] == "raw" and base):
        raise ValueError(f"a disk of the format {description['format']!r}, or with a base under a raw disk")
    file = description.get("descriptor")
    if file is None:
        file = os.open(description["path"], (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
    if description["format"] == "raw":
        return Raw(file, read_only=read_only)
    return Qcow2(file, read_only=read_only, base=open_disk(base | {"read_only": True}) if base else None)
