"""What is on a disk, by its marks: filesystems, partition tables and the like. Only bytes at fixed places are looked
at, so a hostile disk can do no harm."""

import os
import struct
from pathlib import Path

from agent import folders

SECTOR = 512
MAX_PARTITIONS = 16
MARKS = (  # what it is, where its mark is, and the mark
    ("ext", 1080, b"\x53\xef"),
    ("XFS", 0, b"XFSB"),
    ("Btrfs", 0x10040, b"_BHRfS_M"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("FAT", 82, b"FAT32   "),
    ("FAT", 54, b"FAT1"),
    ("F2FS", 1024, b"\x10\x20\xf5\xf2"),
    ("LVM", 536, b"LVM2 001"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("SquashFS", 0, b"hsqs"),
    ("ISO 9660", 0x8001, b"CD001"),
    ("UFS", 0x1055C, b"\x19\x01\x54\x19"),
    ("UFS", 0x1055C, b"\x19\x54\x01\x19"),
)


def found_on(disk: Path) -> list[str]:
    """Words for what is on a raw disk and in its partitions, each once; empty when nothing is known."""
    handle = folders.open_file(disk)
    try:
        partitions = _partitions(handle)
        table = ["partitions"] if partitions else []
        words = [word for start in (0, *partitions) if (word := _at(handle, start))]
        return list(dict.fromkeys([*table, *words]))
    finally:
        os.close(handle)


def _at(handle: int, start: int) -> str:
    return next((word for word, at, mark in MARKS if os.pread(handle, len(mark), start + at) == mark), "")


def _partitions(handle: int) -> list[int]:
    """Where they begin, in bytes: by a GPT, or else by the four entries of an MBR."""
    header = os.pread(handle, 92, SECTOR)
    if header[:8] == b"EFI PART":
        first, count, size = struct.unpack_from("<QII", header, 72)
        if not 128 <= size <= 4096 or first > 1 << 20:
            return []
        entries = (os.pread(handle, 48, first * SECTOR + index * size) for index in range(min(count, MAX_PARTITIONS)))
        return [_offset("<Q", entry, 32) for entry in entries if len(entry) == 48 and any(entry[:16])]
    boot = os.pread(handle, SECTOR, 0)
    if boot[510:] != b"\x55\xaa" or _at(handle, 0):
        return []
    found = (boot[446 + 16 * index : 462 + 16 * index] for index in range(4))
    return [_offset("<I", entry, 8) for entry in found if entry[4] and entry[0] in (0, 0x80)]


def _offset(layout: str, entry: bytes, at: int) -> int:
    """Of a sector. One beyond what a file can have is the disk's beginning, where nothing new is found."""
    sector: int = struct.unpack_from(layout, entry, at)[0]
    return sector * SECTOR if sector < 1 << 50 else 0
