"""A file tree in memory: what a guest will see, whoever builds it. Everything in it belongs to root."""

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A file, directory, symbolic link or character device; `mode` is a full st_mode."""

    mode: int
    content: bytes = b""  # a file's bytes, or a link's target
    device: tuple[int, int] = (0, 0)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Tree:
    """Paths are relative, without `./`; a parent directory appears by itself (0755)."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def __getitem__(self, path: str) -> Node:
        return self._nodes[path]

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Sorted, so that the same tree always makes the same image; parents come before children."""
        return iter(sorted(self._nodes.items()))

    def put(self, path: str, node: Node) -> None:
        parent = posixpath.dirname(path)
        if parent and parent not in self._nodes:
            self.directory(parent)
        self._nodes[path] = node

    def directory(self, path: str, permissions: int = 0o755) -> None:
        self.put(path, Node(stat.S_IFDIR | permissions))

    def file(self, path: str, content: bytes | str, permissions: int = 0o644) -> None:
        self.put(path, Node(stat.S_IFREG | permissions, content if isinstance(content, bytes) else content.encode()))

    def link(self, path: str, target: str) -> None:
        self.put(path, Node(stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int, permissions: int = 0o600) -> None:
        self.put(path, Node(stat.S_IFCHR | permissions, device=(major, minor)))

    def resolve(self, path: str) -> str | None:
        """The path of the file that `path` leads to through links, or None."""
        for _ in range(20):
            node = self._nodes.get(path)
            if node is None or not node.is_link:
                return path if node is not None else None
            target = node.content.decode()
            path = merged(posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/"))
        return None


def merged(path: str) -> str:
    """The path under a merged /usr: `lib/x` and `usr/lib/x` are one place."""
    first = path.split("/", 1)[0]
    return f"usr/{path}" if first in ("bin", "sbin", "lib", "lib32", "lib64", "libx32") else path
