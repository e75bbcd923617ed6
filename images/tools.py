"""The programs that building needs, and the Debian package that brings each (read by the installer)."""

import shutil
from collections.abc import Mapping

REQUIRED_TOOLS = {
    "apt-get": "apt",
    "apt-config": "apt",
    "gpgv": "gpgv",
    "dpkg-deb": "dpkg",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
}
# For kernels that are taken out of their self-extracting files (architectures.py: unpack_kernel).
UNPACKING_TOOLS = {"lz4": "lz4", "zstd": "zstd"}
# For an image of a whole Debian.
DEBIAN_CLOUD_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "fakechroot": "fakechroot",
    "fakeroot": "fakeroot",
    "tar": "tar",
    "sfdisk": "fdisk",
    "grub-mkimage": "grub-common",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "mcopy": "mtools",
    "qemu-img": "qemu-utils",
}
PACKAGES = REQUIRED_TOOLS | UNPACKING_TOOLS | DEBIAN_CLOUD_TOOLS

# mke2fs lives in a directory that is not on an ordinary user's PATH.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BuildError(Exception):
    """Something the user can act on; its text is one line."""


def find(tool: str) -> str:
    """The path of a required tool, or a BuildError that names its package."""
    path = shutil.which(tool, path=SEARCH_PATH)
    if path is None:
        raise BuildError(f"{tool} is missing: install the package {PACKAGES[tool]}")
    return path


def missing(*, unpacking: bool, more: Mapping[str, str] | None = None) -> list[str]:
    """The packages that would have to be installed before anything can be built. `more`: a recipe's own tools."""
    needed = REQUIRED_TOOLS | (UNPACKING_TOOLS if unpacking else {}) | dict(more or {})
    return sorted({package for tool, package in needed.items() if not shutil.which(tool, path=SEARCH_PATH)})


def check(*, unpacking: bool, more: Mapping[str, str] | None = None) -> None:
    """All missing tools in one BuildError."""
    if packages := " ".join(missing(unpacking=unpacking, more=more)):
        raise BuildError(f"missing packages: {packages} (as root: apt-get install {packages})")
