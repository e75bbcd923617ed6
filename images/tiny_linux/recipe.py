"""The recipe: which packages, which of their files, and where they go.

A small initramfs holds busybox and the modules of the root disk; the root is an ext4 file system over the whole disk
(no partition table, so that it grows online). The guest's own code is in `guest/`, file by file as the guest sees it.
"""

import gzip
import posixpath
from pathlib import Path

from .. import cpio, elf, ext4, kernel, qcow2
from ..architectures import Architecture
from ..debian import Archive, Package, contents
from ..recipe import Recipe, Say
from ..tools import BuildError
from ..tree import Tree, merged

GUEST = Path(__file__).parent / "guest"
USERLAND = ("busybox-static", "dropbear-bin", "e2fsprogs", "lua5.4", "lua-yaml")
# What is taken of them; the libraries that these load are found by themselves.
PROGRAMS = ("usr/bin/busybox", "usr/sbin/dropbear", "usr/bin/dropbearkey", "usr/sbin/resize2fs", "usr/bin/lua5.4")
EMPTY_DIRECTORIES = {
    "dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "tmp": 0o1777, "mnt": 0o755, "home": 0o755,
    "root": 0o700, "usr/local/bin": 0o755, "usr/local/sbin": 0o755, "etc/dropbear": 0o700, "var/log": 0o755,
    "var/lib/pileus": 0o700,
}  # fmt: skip
LARGE_INITRD = 4 << 20
IDENTITY = "70696c65-7573-4000-8000-74696e796c6e"  # of the file system: the same in every build


class TinyLinux(Recipe):
    """What `python -m images build tiny-linux` makes; see images/README.md for how it boots."""

    name = "tiny-linux"
    description = "Debian kernel, busybox, SSH and a small cloud-config agent; root disk grows to its size"
    os = "linux"
    min_disk_gib = 1
    min_memory_mib = 128
    default_user = "root"

    def packages(self, archive: Archive, architecture: Architecture, *, refresh: bool) -> list[Package]:
        """All packages whose files may be needed: the userland with its dependencies, and the kernel alone."""
        userland = archive.resolve(USERLAND, refresh=refresh)
        linux = archive.resolve([architecture.kernel_package])
        return userland + [package for package in linux if package.name.startswith("linux-")]

    def build(
        self, architecture: Architecture, files: dict[Package, Path], directory: Path, say: Say
    ) -> dict[str, object]:
        """Write kernel, initrd and disk into the directory; the answer is this recipe's part of image.json."""
        say("unpacking packages")
        userland, linux = Tree(), Tree()
        for package, path in files.items():
            tree, wanted = (linux, _kernel_file) if package.name.startswith("linux-") else (userland, _userland_file)
            for name, node in contents(path, wanted):
                tree.put(name, node)
        modules = kernel.Modules(linux)
        say(f"writing kernel and initrd ({modules.release})")
        (directory / "kernel").write_bytes(kernel.image(linux, unpack=architecture.unpack_kernel))
        initrd = cpio.archive(initramfs(userland, modules, architecture))
        # A large one (where ext4 is a module) is compressed for its size; a small one boots sooner as it is.
        (directory / "initrd").write_bytes(initrd if len(initrd) < LARGE_INITRD else gzip.compress(initrd, 9, mtime=0))
        say("writing the root disk")
        ext4.make(root(userland, modules, architecture, list(files)), directory / "disk.raw", "pileus-root", IDENTITY)
        qcow2.compress(directory / "disk.raw", directory / "disk.qcow2")
        (directory / "disk.raw").unlink()
        return {
            "kernel_command_line": " ".join(
                (f"console={architecture.console}", "root=/dev/vda", "quiet", *architecture.kernel_parameters)
            ),
            "files": [
                {"role": "kernel", "file": "kernel", "format": None},
                {"role": "initrd", "file": "initrd", "format": None},
                {"role": "disk", "file": "disk.qcow2", "format": "qcow2"},
            ],
        }


def initramfs(userland: Tree, modules: kernel.Modules, architecture: Architecture) -> Tree:
    """busybox, the modules that lead to the root disk, and `init`."""
    tree = Tree()
    for name in ("dev", "proc", "sys", "run", "root"):
        tree.directory(name)
    tree.character_device("dev/console", 5, 1)
    tree.character_device("dev/null", 1, 3, 0o666)
    tree.put("bin/busybox", userland["usr/bin/busybox"])
    for name in INITRAMFS_APPLETS:
        tree.link(f"bin/{name}", "busybox")
    order = modules.closure(architecture.root_modules)
    modules.install(order, tree)
    tree.link("lib", "usr/lib")
    tree.file("root-modules", "".join(f"{name}\n" for name in order))
    tree.file("init", (GUEST / "initramfs/init").read_bytes(), 0o755)
    return tree


def root(userland: Tree, modules: kernel.Modules, architecture: Architecture, packages: list[Package]) -> Tree:
    """The root file system, with a merged /usr."""
    tree = Tree()
    for name, permissions in EMPTY_DIRECTORIES.items():
        tree.directory(name, permissions)
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.link(name, f"usr/{name}")
    for name in PROGRAMS:
        tree.put(name, userland[name])
    for name in ("poweroff", "reboot", "halt"):
        tree.link(f"usr/sbin/{name}", "../lib/pileus/power")
    _add_applets(tree, userland["usr/bin/busybox"].content)
    _add_lua_yaml(tree, userland)
    _add_libraries(tree, userland)
    boot = modules.closure([*architecture.root_modules, *architecture.boot_modules])
    spare = modules.closure(architecture.spare_modules, optional=True)
    modules.install(dict.fromkeys(boot + spare), tree)
    tree.file("usr/lib/pileus/boot-modules", "".join(f"{name}\n" for name in boot))
    tree.link("etc/mtab", "../proc/mounts")
    # What the image is made of: where to look for the sources and licences of every program in it.
    tree.file("usr/share/doc/packages", "".join(f"{package.name} {package.version}\n" for package in packages))
    for path in sorted((GUEST / "root").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            secret = path.name == "shadow"
            tree.file(
                str(path.relative_to(GUEST / "root")),
                content,
                0o755 if content[:2] == b"#!" else 0o600 if secret else 0o644,
            )
    return tree


def _add_applets(tree: Tree, busybox: bytes) -> None:
    """Links for busybox's applets, as its own table names them (the program may be of another architecture)."""
    for name in applets(busybox):
        place = f"usr/sbin/{name}" if name in SYSTEM_APPLETS else f"usr/bin/{name}"
        if name != "busybox" and not any(f"usr/{directory}/{name}" in tree for directory in ("bin", "sbin")):
            tree.link(place, "../bin/busybox")


INITRAMFS_APPLETS = ("sh", "cat", "cp", "modprobe", "mount", "switch_root", "usleep")
# Applets that other files name by their path under sbin.
SYSTEM_APPLETS = frozenset(
    "acpid getty halt ifconfig init insmod ip lsmod mdev modprobe nologin rmmod route syslogd udhcpc".split()
)


def applets(busybox: bytes) -> list[str]:
    """The names in busybox's applet table: one run of NUL-terminated words in alphabetical order, from `[` on."""
    start = busybox.find(b"[\0[[\0")
    if start < 0:
        raise BuildError("busybox holds no applet table")
    end = busybox.index(b"\0\0", start)
    return busybox[start:end].decode().split("\0")


def _add_lua_yaml(tree: Tree, userland: Tree) -> None:
    """The binding goes where lua looks without being told, independent of the architecture's name."""
    for path, _node in userland:
        if path.endswith("/lua/5.4/yaml.so"):
            place = userland.resolve(path)
            if place is not None:
                tree.put("usr/local/lib/lua/5.4/yaml.so", userland[place])
                return
    raise BuildError("lua-yaml holds no binding for Lua 5.4")


def _add_libraries(tree: Tree, userland: Tree) -> None:
    """Every library that the tree's programs load, and theirs, beside the loader."""
    where = {path.rsplit("/", 1)[1]: path for path, node in userland if ".so" in path and "/lua/" not in path}
    waiting = [node.content for _path, node in tree if node.is_file and elf.is_elf(node.content)]
    while waiting:
        linkage = elf.linkage(waiting.pop())
        # The loader itself is named by its path in every program, so it is not looked for a second time.
        names = [(name, f"usr/lib/{name}") for name in linkage.needed if not name.startswith("ld-linux")]
        if linkage.interpreter:
            names.append((posixpath.basename(linkage.interpreter), merged(linkage.interpreter.lstrip("/"))))
        for name, place in names:
            if place in tree:
                continue
            source = userland.resolve(where.get(name, ""))
            if source is None:
                raise BuildError(f"no package of the image holds the library {name}")
            tree.put(place, userland[source])
            waiting.append(userland[source].content)


def _kernel_file(path: str) -> bool:
    return path.startswith(("boot/vmlinu", "usr/lib/modules/"))


def _userland_file(path: str) -> bool:
    return path in PROGRAMS or ".so" in path
