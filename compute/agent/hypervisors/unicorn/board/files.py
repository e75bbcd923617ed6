# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole reads and writes at an address of a file. Each may raise OSError."""

import os


def read_all(file: int, address: int, into: memoryview) -> None:
    """Read, with zeros where the file has ended."""
    place = 0
    while place < len(into):
        count = os.preadv(file, [into[place:]], address + place)
        if not count:
            into[place:] = bytes(len(into) - place)
            return
        place += count


def write_all(file: int, address: int, content: bytes | memoryview) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(file, memoryview(content)[written:], address + written)
