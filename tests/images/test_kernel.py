"""Which modules an image gets: those it asks for, and all that they want to be there before them."""

import struct

import pytest

from images.kernel import Modules
from images.tools import BuildError
from images.tree import Tree


def module(**facts: str) -> bytes:
    """An ELF file with nothing but the section that says what the module is."""
    info = b"".join(f"{key}={value}\0".encode() for key, value in facts.items())
    names = b"\0.modinfo\0.shstrtab\0"
    body = bytes(64) + info + names
    sections = [(0, 0, 0), (1, 64, len(info)), (10, 64 + len(info), len(names))]
    header = bytearray(64)
    struct.pack_into("<Q", header, 40, len(body))
    struct.pack_into("<HHH", header, 58, 64, len(sections), 2)
    rows = (struct.pack("<IIQQQQ", name, 0, 0, 0, start, size) for name, start, size in sections)
    table = b"".join(row.ljust(64, b"\0") for row in rows)
    return bytes(header) + body[64:] + table


@pytest.fixture
def modules() -> Modules:
    tree = Tree()
    home = "usr/lib/modules/6.12"
    for name, content in {
        "ext4": module(depends="jbd2,crc16", softdep="pre: crypto-crc32c"),
        "jbd2": module(depends="", softdep="pre: crypto-crc32c post: loop"),
        "crc16": module(depends="", softdep="pre: ext4"),
        "crc32c_generic": module(depends="", alias="crypto-crc32c"),
        "crc32c_other": module(depends="", alias="something else"),
        "lost": module(depends="not_there"),
        "content": module(depends="", softdep="pre: not_there"),
    }.items():
        tree.file(f"{home}/kernel/{name}.ko", content)
    tree.file(f"{home}/modules.builtin", b"kernel/virtio.ko\n")
    return Modules(tree)


def test_what_a_module_wants_comes_before_it(modules):
    assert modules.closure(["ext4", "virtio"]) == ["crc32c_generic", "jbd2", "crc16", "ext4"]


def test_what_it_only_wants_may_be_missing(modules):
    assert modules.closure(["content"]) == ["content"]
    with pytest.raises(BuildError, match="no module not_there"):
        modules.closure(["lost"])


def test_modprobe_finds_what_offers_an_algorithm(modules):
    root = Tree()
    modules.install(modules.closure(["ext4"]), root)
    aliases = root["usr/lib/modules/6.12/modules.alias"].content.decode()
    assert "alias crypto-crc32c crc32c_generic\n" in aliases
