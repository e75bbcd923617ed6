"""Initramfs archives: cpio in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).

Written here because a device node in an archive needs no privilege, while making one on disk does.
"""

from .tree import Node, Tree

ALIGNMENT = 4


def archive(tree: Tree) -> bytes:
    """The tree as an uncompressed archive: every owner is root, every time is 0."""
    output = bytearray()
    for number, (path, node) in enumerate(tree, start=1):
        _append(output, number, path, node)
    _append(output, 0, "TRAILER!!!", Node(0))
    output.extend(bytes(-len(output) % 512))
    return bytes(output)


def _append(output: bytearray, number: int, path: str, node: Node) -> None:
    name = path.encode() + b"\0"
    links = 2 if node.is_directory else 1
    fields = (number, node.mode, 0, 0, links, 0, len(node.content), 0, 0, *node.device, len(name), 0)
    output += b"070701" + b"".join(b"%08X" % field for field in fields) + name
    output.extend(bytes(-len(output) % ALIGNMENT))
    output += node.content
    output.extend(bytes(-len(output) % ALIGNMENT))
