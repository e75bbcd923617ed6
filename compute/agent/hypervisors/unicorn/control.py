"""Drives a running machine over its control socket: one JSON object per line, as `board/control.py` describes it."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import folders
from agent.errors import NoAnswer
from compute.agent import sockets
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Power, Status

SECONDS_TO_ANSWER = 10.0
SECONDS_TO_SAVE = 120.0
POWERS = {"running": Power.RUNNING, "paused": Power.PAUSED, "off": Power.OFF}


class UnicornControl:
    """The verbs of `hypervisors.base.Control`."""

    slots = None  # no hot-plugging

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = sockets.Lines(connection, SECONDS_TO_ANSWER)

    def execute(self, verb: str, *, seconds: float = SECONDS_TO_ANSWER, **arguments: Any) -> dict[str, Any]:
        """Run one verb with a timeout in seconds; returns its answer. Raises NoAnswer."""
        try:
            self._lines.allow(seconds)
            self._connection.settimeout(seconds)
            self._connection.sendall(json.dumps({"execute": verb, "arguments": arguments}).encode() + b"\n")
            answer = json.loads(self._lines.read())
            if "return" in answer:
                return dict(answer["return"])
            problem = answer.get("error", {}).get("message", "no answer")
        except (OSError, *sockets.NO_SENSE) as error:
            raise NoAnswer(f"the embedded emulator, {verb}: {error or type(error).__name__}") from error
        raise NoAnswer(f"the embedded emulator, {verb}: {problem}")

    def status(self) -> Status:
        said = self.execute("status")
        try:
            return Status(POWERS[said["power"]], str(said["problem"]), bool(said["curable"]))
        except sockets.NO_SENSE as error:
            raise NoAnswer("the embedded emulator, status: it makes no sense") from error

    def guest_listens(self) -> bool:
        return False  # it has no channel

    def press_power_button(self) -> None:
        self.execute("power_button")

    def reset(self) -> None:
        self.execute("reset")

    def pause(self) -> None:
        self.execute("pause")

    def resume(self) -> None:
        self.execute("resume")

    def save(self, directory: Path, uid: int | None) -> None:
        with folders.lent(directory, uid):
            self.execute("snapshot", seconds=SECONDS_TO_SAVE, directory=str(directory))

    def quit(self) -> None:
        # The process may be gone before its answer is read.
        with contextlib.suppress(NoAnswer):
            self.execute("quit")


@contextlib.contextmanager
def connect(home: Home) -> Iterator[UnicornControl]:
    """Talk to the machine's process. Raises NoAnswer."""
    with _connection(home) as connection:
        yield UnicornControl(connection)


def events(home: Home) -> socket.socket:
    """A socket with the process's events, readable when there are any. Raises NoAnswer."""
    connection = _connection(home)
    try:
        connection.sendall(b'{"execute": "listen"}\n')
        connection.setblocking(False)
    except OSError as error:
        connection.close()
        raise NoAnswer(f"the embedded emulator, events: {error}") from error
    return connection


def _connection(home: Home) -> socket.socket:
    try:
        return sockets.connect(home, home.control_socket, SECONDS_TO_ANSWER)
    except OSError as error:
        raise NoAnswer(f"the embedded emulator: {error}") from error
