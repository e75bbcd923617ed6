"""The archive's bytes, read back by the format's own rules."""

from images import cpio
from images.tree import Tree


def entries(archive: bytes) -> dict[str, dict]:
    """An independent reader of "newc"."""
    found, position = {}, 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[position + 110 : position + 109 + name_size].decode()
        start = -(-(position + 110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return found
        content = archive[start : start + size]
        found[name] = {
            "mode": fields[1],
            "uid": fields[2],
            "gid": fields[3],
            "content": content,
            "device": tuple(fields[9:11]),
        }
        position = -(-(start + size) // 4) * 4


def a_tree() -> Tree:
    tree = Tree()
    tree.file("etc/deep/name", b"odd", 0o600)
    tree.link("bin/sh", "busybox")
    tree.character_device("dev/console", 5, 1)
    tree.file("init", "#!", 0o755)
    return tree


def test_every_node_comes_back_with_its_mode_and_content():
    found = entries(cpio.archive(a_tree()))
    assert found["etc/deep/name"] == {"mode": 0o100600, "uid": 0, "gid": 0, "content": b"odd", "device": (0, 0)}
    assert found["bin/sh"]["mode"] == 0o120777
    assert found["bin/sh"]["content"] == b"busybox"
    assert found["dev/console"]["mode"] == 0o020600
    assert found["dev/console"]["device"] == (5, 1)


def test_parents_come_before_their_children():
    names = list(entries(cpio.archive(a_tree())))
    assert names.index("etc") < names.index("etc/deep") < names.index("etc/deep/name")


def test_the_same_tree_makes_the_same_bytes_in_whole_blocks():
    assert cpio.archive(a_tree()) == cpio.archive(a_tree())
    assert len(cpio.archive(a_tree())) % 512 == 0
