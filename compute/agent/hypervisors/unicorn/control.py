"""Drives a running machine over its control socket: one JSON object per line, as `board/control.py` describes it."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from agent.errors import NoAnswer
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Power, Status

SECONDS_TO_ANSWER = 10.0
SECONDS_TO_SAVE = 120.0
POWERS = {"running": Power.RUNNING, "paused": Power.PAUSED, "off": Power.OFF}


class UnicornControl:
    """The verbs of `hypervisors.base.Control`."""

    def __init__(self, connection: socket.socket, stream: TextIO) -> None:
        self._connection = connection
        self._stream = stream

    def execute(self, verb: str, **arguments: Any) -> Any:
        """Have one verb done; its answer. Raises NoAnswer."""
        try:
            self._stream.write(json.dumps({"execute": verb, "arguments": arguments}) + "\n")
            self._stream.flush()
            answer = json.loads(self._stream.readline())
        except (OSError, ValueError) as error:
            raise NoAnswer(f"the embedded emulator, {verb}: {error or type(error).__name__}") from error
        if "return" not in answer:
            raise NoAnswer(f"the embedded emulator, {verb}: {answer.get('error', {}).get('message', 'no answer')}")
        return answer["return"]

    def status(self) -> Status:
        said = self.execute("status")
        return Status(POWERS[said["power"]], said["problem"], said["curable"])

    def press_power_button(self) -> None:
        self.execute("power_button")

    def reset(self) -> None:
        self.execute("reset")

    def pause(self) -> None:
        self.execute("pause")

    def resume(self) -> None:
        self.execute("resume")

    def save(self, directory: Path) -> None:
        self._connection.settimeout(SECONDS_TO_SAVE)
        self.execute("snapshot", directory=str(directory))

    def quit(self) -> None:
        # The process may be gone before its answer is read.
        with contextlib.suppress(NoAnswer):
            self.execute("quit")


@contextlib.contextmanager
def connect(home: Home) -> Iterator[UnicornControl]:
    """Talk to the machine's process. Raises NoAnswer."""
    with _connection(home) as connection, connection.makefile("rw") as stream:
        yield UnicornControl(connection, stream)


def events(home: Home) -> socket.socket:
    """A socket on which the process tells what happens, readable when something did. Raises NoAnswer."""
    connection = _connection(home)
    try:
        connection.sendall(b'{"execute": "listen"}\n')
        connection.setblocking(False)
    except OSError as error:
        connection.close()
        raise NoAnswer(f"the embedded emulator, events: {error}") from error
    return connection


def _connection(home: Home) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(SECONDS_TO_ANSWER)
        connection.connect(str(home.control_socket))
    except OSError as error:
        connection.close()
        raise NoAnswer(f"the embedded emulator: {error}") from error
    return connection
