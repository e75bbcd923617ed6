"""Package files as a repository that apt reads: a folder with an index."""

import os
import subprocess
from pathlib import Path

from .. import tools
from ..debian import Package
from ..tools import BuildError


def make(files: dict[Package, Path], folder: Path) -> None:
    """Link the packages into a new folder beside their `Packages`. Raises BuildError, OSError."""
    folder.mkdir()
    folder.chmod(0o755)
    stanzas = []
    for package, path in files.items():
        name = f"{package.name}_{package.sha256[:16]}.deb"
        _link(path, folder / name)
        size = f"Filename: ./{name}\nSize: {path.stat().st_size}\nSHA256: {package.sha256}\n"
        stanzas.append(_fields(path) + size)
    (folder / "Packages").write_text("\n".join(stanzas))


def _fields(path: Path) -> str:
    done = subprocess.run([tools.find("dpkg-deb"), "--field", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"dpkg-deb can't read {path.name}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n") + "\n"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        target.write_bytes(source.read_bytes())
