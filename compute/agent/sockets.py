"""Connections to a machine's emulator, which may have been taken over.

Its sockets lie in a folder that it could write to while it started. So a socket is opened without following links, has
to belong to the machine's own user, and is connected to through its descriptor: it cannot be another machine's. What is
said there is read up to a limit, and never waited for longer than agreed.
"""

import contextlib
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from agent import folders
from compute.agent.homes import Home

MAX_LINE = 1 << 20
NO_SENSE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # raised by malformed input


def exists(path: Path) -> bool:
    """Whether a socket has this name."""
    found = folders.status(path)
    return found is not None and stat.S_ISSOCK(found.st_mode)


@contextlib.contextmanager
def address(home: Home, path: Path) -> Iterator[str]:
    """What to connect to, as long as the context lasts. Raises FileNotFoundError, PermissionError."""
    with folders.opened(path.parent) as folder:
        handle = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(handle)
        if not stat.S_ISSOCK(found.st_mode) or found.st_nlink != 1 or found.st_uid not in _owners(home):
            raise PermissionError(f"{path} is not the machine's own socket")
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def connect(home: Home, path: Path, seconds: float) -> socket.socket:
    """Connect to a socket of the machine; what is done there later has this time-out, too. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        with address(home, path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


def _owners(home: Home) -> set[int]:
    """Whose the sockets of the machine are: its own user's, who is the group of its home, or the agent's."""
    found = folders.status(home.directory)
    return {os.geteuid(), *({found.st_gid} if found and os.geteuid() == 0 else ())}


class Lines:
    """What an emulator says on a connection, line by line."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._heard = bytearray()
        self.allow(seconds)

    def allow(self, seconds: float) -> None:
        """All that is read from here on has to come within this time."""
        self._deadline = time.monotonic() + seconds

    def read(self) -> bytes:
        """The next line. Raises OSError, TimeoutError among them, and ValueError when it is too long."""
        while (end := self._heard.find(b"\n")) < 0:
            if len(self._heard) > MAX_LINE:
                raise ValueError(f"a line of more than {MAX_LINE} bytes")
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._connection.settimeout(left)
            piece = self._connection.recv(64 << 10)
            if not piece:
                raise ConnectionError("it hung up")
            self._heard += piece
        if time.monotonic() > self._deadline:
            raise TimeoutError("no end of it in time")
        line = bytes(self._heard[: end + 1])
        del self._heard[: end + 1]
        return line
