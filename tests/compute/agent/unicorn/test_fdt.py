"""Devicetrees, read back by a reader that shares nothing with the writer. A tenant's words are in them."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from compute.agent.hypervisors.unicorn.board.devicetree import SLOTS, Contents, devicetree
from compute.agent.hypervisors.unicorn.board.fdt import Node, flatten
from compute.agent.hypervisors.unicorn.board.memory import BASE

bounded = settings(max_examples=200, deadline=None)
names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=31)
values = st.one_of(
    st.just(True),
    st.integers(0, 0xFFFF_FFFF),
    st.binary(max_size=70),
    st.text(st.characters(min_codepoint=1, codec="utf-8"), max_size=70),
    st.lists(st.integers(0, 0xFFFF_FFFF), max_size=9),
)
trees = st.recursive(
    st.builds(Node, names, st.dictionaries(names, values, max_size=4)),
    lambda children: st.builds(
        lambda name, properties, below: Node(name, properties, *below),
        names,
        st.dictionaries(names, values, max_size=4),
        st.lists(children, max_size=4),
    ),
    max_leaves=12,
)


def read(blob: bytes) -> tuple:
    """(name, properties, children) of the root; asserts what chapter 5 of the specification demands."""
    magic, total, structure, strings, reservations, version, compatible, _, strings_size, structure_size = (
        struct.unpack_from(">10I", blob)
    )
    assert (magic, total, version, compatible) == (0xD00DFEED, len(blob), 17, 16)
    assert structure % 4 == 0
    assert reservations % 8 == 0
    assert blob[reservations : reservations + 16] == bytes(16)
    assert strings + strings_size <= total
    place = structure

    def word() -> int:
        nonlocal place
        place += 4
        return struct.unpack_from(">I", blob, place - 4)[0]

    def text(start: int) -> str:
        return blob[start : blob.index(b"\0", start)].decode()

    def node() -> tuple:
        nonlocal place
        name = text(place)
        place += len(name) + 4 & ~3
        properties, children = {}, []
        while (token := word()) != 2:
            if token == 3:
                size, at = word(), word()
                properties[text(strings + at)] = blob[place : place + size]
                place += size + 3 & ~3
            else:
                assert token == 1
                children.append(node())
        return name, properties, children

    assert word() == 1
    root = node()
    assert word() == 9
    assert place == structure + structure_size
    return root


def expected(tree: Node) -> tuple:
    def content(value: object) -> bytes:
        if value is True:
            return b""
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return value.encode() + b"\0"
        return b"".join(struct.pack(">I", cell) for cell in (value if isinstance(value, list) else [value]))

    properties = {name: content(value) for name, value in tree.properties.items()}
    return tree.name, properties, [expected(child) for child in tree.children]


@bounded
@given(trees)
def test_every_tree_comes_back_as_it_was(tree):
    assert read(flatten(tree)) == expected(tree)


@bounded
@given(
    st.integers(64, 1024),
    st.integers(0, SLOTS),
    st.text(st.characters(codec="utf-8"), max_size=1000),
    st.binary(max_size=64),
)
def test_whatever_the_command_line_says_the_guest_has_the_memory_and_devices_that_it_has(mib, slots, line, seed):
    _, _, children = read(devicetree(Contents(mib << 20, slots, line, seed, (BASE, BASE + 4096))))
    below = {name: (properties, further) for name, properties, further in children}
    assert below[f"memory@{BASE:x}"][0]["reg"] == struct.pack(">2Q", BASE, mib << 20)
    assert below["chosen"][0]["bootargs"] == line.encode() + b"\0"
    assert sum(name.startswith("virtio") for name, _, _ in below["soc"][1]) == slots
