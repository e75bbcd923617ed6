# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial console: all of it appended to a log, and what comes now to whoever is connected.

Nobody's slowness stops the guest: who does not read loses what does not fit, and the log has it. The agent gives the
log's beginning back to the filesystem.
"""

import contextlib
import os
import socket
import threading
from pathlib import Path

GATHERED = 4096  # bytes before they are written without being asked
UNREAD_LIMIT = 256 << 10  # per listener
KEPT = 64 << 10  # of the end, in memory


class Listener:
    """A connection to the console, and what it has not read yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.unread = bytearray()

    def send(self) -> None:
        """Send what can be sent now. Raises OSError when nobody is there any more."""
        with contextlib.suppress(BlockingIOError):
            while self.unread:
                del self.unread[: self.socket.send(self.unread[:65536])]


class Console:
    """`say` is called by the guest's processor for every few bytes; `write_out` now and then by anybody."""

    def __init__(self, log: Path | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._log = os.open(log, flags, 0o600) if log else None
        self._gathered = bytearray()
        self._lock = threading.Lock()
        self.listeners: list[Listener] = []
        self.said = 0
        self._end = bytearray()

    def end(self) -> tuple[bytes, int]:
        """The last bytes, and how many there ever were."""
        self.write_out()
        with self._lock:
            return bytes(self._end), self.said

    def say(self, content: bytes) -> None:
        self._gathered += content
        if len(self._gathered) >= GATHERED:
            self.write_out()

    def write_out(self) -> None:
        """Write what was gathered."""
        if not self._gathered:
            return
        with self._lock:
            # The processor may append meanwhile: take what is there, and leave the rest.
            content = bytes(self._gathered)
            del self._gathered[: len(content)]
            self.said += len(content)
            self._end += content
            del self._end[:-KEPT]
            if self._log is not None:
                with contextlib.suppress(OSError):  # a full disk costs the log, not the guest
                    os.write(self._log, content)
            for listener in self.listeners:
                if len(listener.unread) + len(content) <= UNREAD_LIMIT:
                    listener.unread += content
                with contextlib.suppress(OSError):
                    listener.send()
