"""Kernel modules: chosen by name, with all they depend on, and the two tables that modprobe reads."""

import fnmatch
import lzma
import posixpath
from collections.abc import Iterable, Iterator

from . import bzimage, elf
from .tools import BuildError
from .tree import Tree


class Modules:
    """The modules of one kernel package, by name ('-' and '_' are the same, as for modprobe)."""

    def __init__(self, tree: Tree) -> None:
        self._packed: dict[str, bytes] = {}  # as packaged: a kernel has thousands, an image wants a few
        self._path: dict[str, str] = {}
        self.built_in: set[str] = set()
        for path, node in tree:
            if path.endswith("/modules.builtin"):
                self.built_in |= {_name(line) for line in node.content.decode().split()}
                self.directory = posixpath.dirname(path)
            elif node.is_file and path.endswith((".ko", ".ko.xz")):
                self._packed[_name(path)] = node.content
                self._path[_name(path)] = path.removesuffix(".xz")

    @property
    def release(self) -> str:
        """The kernel's own version word, as in /lib/modules."""
        return posixpath.basename(self.directory)

    def closure(self, names: Iterable[str], *, optional: bool = False) -> list[str]:
        """The names with their dependencies, each after what it needs; what is built in is left out."""
        ordered: list[str] = []
        seen: set[str] = set()

        def visit(name: str) -> None:
            name = _name(name)
            if name in seen or name in self.built_in:
                return
            seen.add(name)  # soft dependencies may go in a circle
            if name not in self._packed:
                raise BuildError(f"the kernel {self.release} has no module {name}")
            for needed in self._depends(name):
                visit(needed)
            ordered.append(name)

        for name in names:
            if not optional or _name(name) in self._packed:
                visit(name)
        return ordered

    def install(self, names: Iterable[str], root: Tree) -> None:
        """Put the modules into a tree, uncompressed, with modules.dep and modules.alias (depmod(8))."""
        names = list(names)
        place = {name: posixpath.relpath(self._path[name], self.directory) for name in names}
        dependencies, aliases = [], []
        for name in names:
            content = self._content(name)
            root.file(f"{self.directory}/{place[name]}", content)
            # modprobe loads a line's dependencies from right to left.
            needed = [other for other in reversed(self.closure([name])) if other != name]
            dependencies.append(f"{place[name]}: {' '.join(place[other] for other in needed)}".rstrip() + "\n")
            for alias in self._aliases(name):
                aliases.append(f"alias {alias} {name}\n")
        root.file(f"{self.directory}/modules.dep", "".join(sorted(dependencies)))
        root.file(f"{self.directory}/modules.alias", "".join(sorted(aliases)))

    def _content(self, name: str) -> bytes:
        packed = self._packed[name]
        return lzma.decompress(packed) if packed[:6] == b"\xfd7zXZ\0" else packed

    def _depends(self, name: str) -> list[str]:
        facts = elf.module_facts(self._content(name))
        needed = [word for line in facts.get("depends", []) for word in line.split(",") if word]
        return [*needed, *(module for line in facts.get("softdep", []) for module in self._wished(line))]

    def _wished(self, softdep: str) -> Iterator[str]:
        """The modules of "pre: crypto-crc32c post: …" that are to be there before, as far as the kernel has them.

        Such a word names a module, or what modules offer by an alias: then they are called like it without `crypto-`.
        """
        before = softdep.partition("post:")[0].removeprefix("pre:")
        for word in before.split():
            stem = _name(word.removeprefix("crypto-"))
            for name in sorted(self._packed):
                if name == _name(word) or name.startswith(stem) and word in self._aliases(name):
                    yield name

    def _aliases(self, name: str) -> list[str]:
        return elf.module_facts(self._content(name)).get("alias", [])


def image(tree: Tree, *, unpack: bool) -> bytes:
    """The kernel itself, which Debian packages in /boot or (from 2026 on) beside its modules."""
    for pattern in ("boot/vmlinu[xz]-*", "usr/lib/modules/*/vmlinu[xz]"):
        for path, node in tree:
            if fnmatch.fnmatch(path, pattern) and node.is_file:
                return (bzimage.vmlinux(node.content) if unpack else None) or node.content
    raise BuildError("the kernel package holds no kernel")


def _name(path: str) -> str:
    return posixpath.basename(path).removesuffix(".xz").removesuffix(".ko").replace("-", "_")
