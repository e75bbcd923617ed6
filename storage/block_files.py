"""A folder as the store of backups: files below it by name, each there as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class Folder:
    """A folder that every web process and every control worker sees. Raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_suffix(".new")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def remove(self, *names: str) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def files(self) -> Iterator[tuple[str, float]]:
        for path in self.root.glob("*/??/*") if self.root.is_dir() else ():
            with suppress(FileNotFoundError):
                if path.is_file():
                    yield str(path.relative_to(self.root)), path.stat().st_mtime
