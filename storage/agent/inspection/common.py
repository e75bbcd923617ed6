"""What all readers of formats share: a window on the file, what was found, and the reason why a file is not taken."""

import os
import re
import struct
from dataclasses import dataclass, field
from typing import Any

MIB = 1 << 20
GIB = 1 << 30
SECTOR = 512
MAX_FILE_BYTES = 1 << 62
FORMATS = ("qcow2", "raw", "vdi", "vmdk", "vhd", "vhdx", "iso", "ova")
TITLES = {"qcow2": "qcow2", "raw": "raw", "iso": "ISO", "ova": "OVA"} | {
    name: name.upper() for name in ("vdi", "vmdk", "vhd", "vhdx")
}


class Unfit(Exception):
    """This file cannot become an image. The words are shown to the tenant: what is wrong, and what to do. `fix_by`: who
    can do that, as in `agent.errors`."""

    def __init__(self, words: str = "", *, fix_by: str = "you") -> None:
        super().__init__(words)
        self.fix_by = fix_by


@dataclass(frozen=True)
class Limits:
    """What a tenant's file may have. `virtual_bytes`: the size of one disk as its guest would see it."""

    virtual_bytes: int = 2048 * GIB
    disks: int = 16


@dataclass(frozen=True)
class Disk:
    """One disk. It lies in the file from `offset` on, for `size` bytes; `name`: its name in the archive, if in one."""

    format: str
    virtual_bytes: int
    offset: int
    size: int
    name: str = ""


@dataclass(frozen=True)
class Machine:
    """The machine that an appliance describes. None: not described."""

    name: str = ""
    os: str = ""
    cpus: int | None = None
    memory_mib: int | None = None
    firmware: str = "bios"
    nics: int = 0
    disk_bus: str = ""  # as `storage.hardware` calls it; "" where ours may be taken
    nic_bus: str = ""
    # What only an appliance of ours says; it leaves `firmware` open as well.
    machine_type: str = ""
    architecture: str = ""
    default_user: str = ""
    cloud_init: bool | None = None


@dataclass(frozen=True)
class Found:
    """What is in a file. `notes`: sentences about what an import leaves out; `uefi`: settings, see `storage.uefi`."""

    format: str
    disks: tuple[Disk, ...]
    notes: tuple[str, ...] = ()
    machine: Machine | None = None
    uefi: str = ""


@dataclass(frozen=True)
class Examined:
    """What the reader of one disk format found."""

    virtual_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """A part of an open file. Nothing is read beyond its end, and never more than is asked for."""

    handle: int
    start: int = 0
    size: int = field(default=0)

    @classmethod
    def of(cls, handle: int) -> "Window":
        return cls(handle, 0, os.fstat(handle).st_size)

    def part(self, offset: int, size: int) -> "Window":
        """A smaller window. Raises Unfit when it does not lie in this one."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Unfit("The file ends early: it was cut off. Upload or export it again.")
        return Window(self.handle, self.start + offset, size)

    def read(self, offset: int, length: int, what: str = "") -> bytes:
        """Exactly these bytes. Raises Unfit, with `what` they are, when the file ends before."""
        if offset < 0 or offset + length > self.size:
            missing = f"The file ends early: its {what} is missing" if what else "The file ends early"
            raise Unfit(f"{missing}. It was cut off or is damaged. Upload or export it again.")
        content = b""
        while len(content) < length:
            piece = os.pread(self.handle, length - len(content), self.start + offset + len(content))
            if not piece:
                raise Unfit("The file became shorter while it was read. Upload it again.")
            content += piece
        return content

    def head(self, length: int) -> bytes:
        """The first bytes, fewer when there are no more."""
        return self.read(0, min(length, self.size))

    def tail(self, length: int) -> bytes:
        """The last bytes, fewer when there are no more."""
        length = min(length, self.size)
        return self.read(self.size - length, length)

    def fields(self, layout: str, offset: int, what: str = "") -> tuple[Any, ...]:
        """Numbers at this offset, by a layout of the struct module."""
        return struct.unpack(layout, self.read(offset, struct.calcsize(layout), what))

    def holds(self, offset: int, length: int, what: str) -> None:
        """Raises Unfit unless these bytes are in the file."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Unfit(f"Its {what} lies outside of the file: it is damaged or was cut off. Export it again.")


def check_size(virtual_bytes: int, limits: Limits) -> None:
    """Raises Unfit for a disk without a size, or with more than is allowed."""
    if virtual_bytes <= 0:
        raise Unfit("The disk has no size. Export it again.")
    if virtual_bytes > limits.virtual_bytes:
        raise Unfit(
            f"The disk is {size_words(virtual_bytes)} for its guest, and {size_words(limits.virtual_bytes)} are "
            "allowed here. Make it smaller, or ask an administrator for a higher limit."
        )


def size_words(size: int) -> str:
    for unit, factor in (("TiB", 1 << 40), ("GiB", GIB), ("MiB", MIB), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size} bytes"


def check_table(entries: int, entry_bytes: int, limit_bytes: int, what: str) -> None:
    """Raises Unfit for a table that would take more memory than a sound disk's ever does."""
    if entries * entry_bytes > limit_bytes:
        raise Unfit(
            f"Its {what} has {entries:,} entries, far more than a disk of its size needs: it is damaged or was made to "
            "do harm. Export it again."
        )


def safe_name(name: str) -> bool:
    """Whether this names a file in the same folder, and nothing else."""
    return bool(name) and name not in (".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]", name) and len(name) <= 255


def printable(text: str) -> str:
    """A tenant's words, as they may stand in ours."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:80])
