"""The programs that building needs, and the Debian package that brings each (read by the installer)."""

import shutil

REQUIRED_TOOLS = {
    "apt-get": "apt",
    "apt-config": "apt",
    "gpgv": "gpgv",
    "dpkg-deb": "dpkg",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "lz4": "lz4",
    "zstd": "zstd",
}

# mke2fs lives in a directory that is not on an ordinary user's PATH.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BuildError(Exception):
    """Something the user can act on; its text is one line."""


def find(tool: str) -> str:
    """The path of a required tool, or a BuildError that names its package."""
    path = shutil.which(tool, path=SEARCH_PATH)
    if path is None:
        raise BuildError(f"{tool} is missing: install the package {REQUIRED_TOOLS[tool]}")
    return path


def check() -> None:
    """All missing tools in one BuildError."""
    missing = sorted({package for tool, package in REQUIRED_TOOLS.items() if not shutil.which(tool, path=SEARCH_PATH)})
    if missing:
        raise BuildError(f"missing packages: {' '.join(missing)} (as root: apt-get install {' '.join(missing)})")
