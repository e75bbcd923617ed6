# SPDX-License-Identifier: GPL-2.0-or-later
"""Flattened devicetrees. Source: Devicetree Specification v0.4, chapter 5."""

import struct
from collections.abc import Sequence

MAGIC, VERSION, OLDEST_COMPATIBLE = 0xD00D_FEED, 17, 16
BEGIN_NODE, END_NODE, PROPERTY, END = 1, 2, 3, 9
HEADER_SIZE, RESERVATIONS_SIZE = 40, 16

Value = bool | int | str | bytes | Sequence[int] | Sequence[str]


class Node:
    """A node with properties and children. `True` is an empty property, an int one 32-bit cell."""

    def __init__(self, name: str, /, properties: dict[str, Value], *children: "Node") -> None:
        self.name = name
        self.properties = properties
        self.children = list(children)


def cells64(*values: int) -> list[int]:
    """Each value as two 32-bit cells."""
    return [half for value in values for half in (value >> 32, value & 0xFFFF_FFFF)]


def flatten(root: Node) -> bytes:
    """The tree as a blob."""
    structure, strings, places = bytearray(), bytearray(), dict[str, int]()

    def place_of(name: str) -> int:
        if name not in places:
            places[name] = len(strings)
            strings.extend(name.encode() + b"\0")
        return places[name]

    def write(node: Node) -> None:
        structure.extend(struct.pack(">I", BEGIN_NODE) + _padded(node.name.encode() + b"\0"))
        for name, value in node.properties.items():
            content = _content(value)
            structure.extend(struct.pack(">III", PROPERTY, len(content), place_of(name)) + _padded(content))
        for child in node.children:
            write(child)
        structure.extend(struct.pack(">I", END_NODE))

    write(root)
    structure.extend(struct.pack(">I", END))
    at_structure = HEADER_SIZE + RESERVATIONS_SIZE
    at_strings = at_structure + len(structure)
    header = struct.pack(
        ">10I",
        *(MAGIC, at_strings + len(strings), at_structure, at_strings, HEADER_SIZE, VERSION, OLDEST_COMPATIBLE),
        *(0, len(strings), len(structure)),
    )
    return header + bytes(RESERVATIONS_SIZE) + bytes(structure) + bytes(strings)


def _content(value: Value) -> bytes:
    if value is True:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode() + b"\0"
    if isinstance(value, int):
        return struct.pack(">I", value)
    return b"".join(_content(item) for item in value)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
