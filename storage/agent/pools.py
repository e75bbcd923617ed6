"""Folders that several hosts share, such as a mounted NFS export: volumes in them are there on each of these hosts.

Each is mounted at `pools/NAME` of the agent's home, or linked there. Its marker, a file with a UUID that an admin wrote
once, says which one it is: so hosts prove that they see the same one, and a folder where nothing is mounted has no
marker and is none.

A file server that hangs keeps whoever asks it waiting, and nothing ends that but its answer. So a folder is asked in
a thread of its own, and who asks waits for some seconds only.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import structlog

from agent import folders, system
from agent.errors import Refused
from agent.paths import Paths

log = structlog.get_logger()

T = TypeVar("T")
MARKER = ".pileus-pool"
MAX_MARKER = 100  # bytes
SECONDS_TO_ANSWER = 5.0
VOLUMES = "volumes"


class Silent(Refused):
    """The file server of a shared folder does not answer."""


class Server:
    """What is mounted under one name. One question at a time; while one has no answer, others are refused at once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.pool = ""  # as its marker said last
        self.silent_since: float | None = None
        self._turn = threading.Lock()

    def ask(self, question: Callable[[], T]) -> T:
        """Its answer. Raises Silent, and whatever the question raises."""
        patience = 0.0 if self.silent_since else SECONDS_TO_ANSWER
        if not self._turn.acquire(timeout=patience):
            raise self._silent()
        answer: Future[T] = Future()
        threading.Thread(target=self._answer, args=(question, answer), name=f"pool-{self.name}", daemon=True).start()
        try:
            return answer.result(SECONDS_TO_ANSWER)
        except TimeoutError:
            if answer.done():
                raise  # it is the answer
            self.silent_since = time.time() - SECONDS_TO_ANSWER
            log.warning("a file server does not answer", folder=self.name)
            raise self._silent() from None

    def look(self) -> tuple[str, Path]:
        """The id of the shared folder that is mounted there, "" when none is, and where it is. Raises Silent."""
        self.pool, folder = self.ask(lambda: _marked(self.folder.resolve()))
        return self.pool, folder

    def _answer(self, question: Callable[[], T], answer: "Future[T]") -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # noqa: BLE001 - it is raised where the question was asked
            answer.set_exception(error)
        finally:
            if self.silent_since:
                log.info("a file server answers again", folder=self.name)
            self.silent_since = None
            self._turn.release()

    def _silent(self) -> Silent:
        return Silent(f"the file server of the shared folder {self.name} does not answer")


def _marked(folder: Path) -> tuple[str, Path]:
    with contextlib.suppress(OSError, ValueError):
        return str(uuid.UUID(folders.read_file(folder / MARKER, MAX_MARKER).decode().strip())), folder
    return "", folder


class Pools:
    """Those of this host, looked at anew each time: what is mounted comes and goes."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "pools"
        self._servers: dict[str, Server] = {}

    def found(self) -> dict[str, Path]:
        """Where each one that is mounted and answers keeps its layers, by its id."""
        return {server.pool: folder / VOLUMES for server, folder in self._mounted()}

    def directory(self, pool: str) -> Path:
        """Where one keeps its layers. Raises Refused when it is not mounted here or does not answer, OSError."""

        def make(folder: Path) -> Path:
            directory = folder / VOLUMES
            directory.mkdir(mode=0o711, exist_ok=True)
            return directory

        return self.ask(pool, make)

    def ask(self, pool: str, question: Callable[[Path], T]) -> T:
        """What a question about a folder finds out. Raises Refused when it is not mounted here or does not answer, and
        what the question raises."""
        pool = str(uuid.UUID(pool))
        for server in self._all():
            try:
                found, folder = server.look()
                if found == pool:
                    return server.ask(lambda folder=folder: question(folder))  # type: ignore[misc]
            except Silent:
                if server.pool == pool:
                    raise
        raise Refused(f"the shared folder of this volume is not mounted on its host (pool {pool})")

    def facts(self) -> dict[str, Any]:
        """By its id: {"name": of the folder where it is mounted, "total_gib"}. None whose file server fails."""
        found = {}
        for server, folder in self._mounted():
            with contextlib.suppress(OSError, Silent):
                total = server.ask(lambda folder=folder: system.room(folder))  # type: ignore[misc]
                found[server.pool] = {"name": server.name, "total_gib": total >> 30}
        return found

    def silent(self) -> Iterator[tuple[str, float]]:
        """The names of those that do not answer, and since when."""
        for server in self._all():
            if since := server.silent_since:
                yield server.name, since

    def _mounted(self) -> Iterator[tuple[Server, Path]]:
        """Each one that answers, and its folder."""
        for server in self._all():
            with contextlib.suppress(Silent):
                pool, folder = server.look()
                if pool:
                    yield server, folder

    def _all(self) -> Iterator[Server]:
        for name in folders.names(self._directory):
            yield self._servers.setdefault(name, Server(name, self._directory / name))


@cache
def _of(home: Path) -> Pools:
    return Pools(home)


def pools_of(paths: Paths) -> Pools:
    """Those of a host: the same ones for all of its kinds, so that they share what is known of a server."""
    return _of(paths.home)
