"""Folders that several hosts share, such as a mounted NFS export: volumes in them are there on each of these hosts.

Each is mounted at `pools/NAME` of the agent's home, or linked there. Its marker, a file with a UUID that an admin wrote
once, says which one it is: so hosts prove that they see the same one, and a folder where nothing is mounted has no
marker and is none.
"""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import folders
from agent.errors import Refused
from agent.paths import Paths

MARKER = ".pileus-pool"
MAX_MARKER = 100  # bytes


class Pools:
    """Those of this host, looked at anew each time: what is mounted comes and goes."""

    def __init__(self, paths: Paths) -> None:
        self._directory = paths.home / "pools"

    def found(self) -> dict[str, Path]:
        """Where each one that is mounted keeps its layers, by its id."""
        return {pool: folder / "volumes" for pool, _, folder in self._mounted()}

    def directory(self, pool: str) -> Path:
        """Where one keeps its layers. Raises Refused when it is not mounted here, OSError."""
        directory = self.found().get(str(uuid.UUID(pool)))
        if directory is None:
            raise Refused(f"the shared folder of this volume is not mounted on its host (pool {pool})")
        directory.mkdir(mode=0o711, exist_ok=True)
        return directory

    def facts(self) -> dict[str, Any]:
        """By its id: {"name": of the folder where it is mounted, "total_gib"}. None whose file server fails."""
        found = {}
        for pool, name, folder in self._mounted():
            with contextlib.suppress(OSError):
                found[pool] = {"name": name, "total_gib": shutil.disk_usage(folder).total >> 30}
        return found

    def _mounted(self) -> Iterator[tuple[str, str, Path]]:
        """Id, name and folder of each."""
        for name in folders.names(self._directory):
            folder = (self._directory / name).resolve()
            if pool := _marked(folder):
                yield pool, name, folder


def _marked(folder: Path) -> str:
    """The id of the shared folder that is mounted there; "" when none is."""
    with contextlib.suppress(OSError, ValueError):
        return str(uuid.UUID(folders.read_file(folder / MARKER, MAX_MARKER).decode().strip()))
    return ""
