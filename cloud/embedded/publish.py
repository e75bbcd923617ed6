"""A copy of the source tree where other users reach it.

As root the processes give up root, and a tree below, say, /root is closed to them. The copy is brought up to date
in place: files that are the same stay untouched, those that went are removed. `publish.py TREE COPY`.
"""

import shutil
import sys
from pathlib import Path

LEFT_OUT = {
    ".git",
    "var",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    "node_modules",
    ".venv",
}


def files_below(folder: Path) -> dict[Path, Path]:
    """Every file worth copying, by its path relative to the folder."""
    found: dict[Path, Path] = {}
    for entry in folder.iterdir():
        if entry.name in LEFT_OUT:
            continue
        if entry.is_dir() and not entry.is_symlink():
            found |= {Path(entry.name) / path: file for path, file in files_below(entry).items()}
        else:
            found[Path(entry.name)] = entry
    return found


def publish(tree: Path, copy: Path) -> None:
    wanted, present = files_below(tree), files_below(copy)
    for path in present.keys() - wanted.keys():
        present[path].unlink()
    for path, file in wanted.items():
        target = copy / path
        was = target.stat() if target.exists() else None
        now = file.stat()
        if was and was.st_mtime_ns == now.st_mtime_ns and was.st_size == now.st_size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".new")
        shutil.copy2(file, fresh)
        fresh.chmod(0o755 if now.st_mode & 0o100 else 0o644)
        fresh.replace(target)


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
