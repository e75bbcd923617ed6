# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's sockets: control, console, network; one thread for all of them.

Control is a Unix stream socket that speaks JSON, one object per line: `{"execute": verb, "arguments": {…}}` is answered
by `{"return": …}` or `{"error": {"code", "message"}}`, in order. After `listen`, lines `{"event": "power", …}` come as
well, whenever what `status` says has changed.
"""

import base64
import contextlib
import json
import os
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .computer import Unbootable
from .console import Listener
from .machine import Machine, WrongState
from .networks import Network
from .snapshot import Unusable

LINE_LIMIT = 64 << 10
CONNECTIONS = 64
CODES: dict[type[Exception], str] = {
    WrongState: "wrong_state",
    Unbootable: "unbootable",
    Unusable: "unusable_snapshot",
    OSError: "host_failed",
    KeyError: "malformed",
    TypeError: "malformed",
    ValueError: "malformed",
    TimeoutError: "busy",
}


class Client:
    """A connection to the control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.heard = b""
        self.unsent = bytearray()
        self.listens = False

    def say(self, message: dict[str, Any]) -> None:
        self.unsent += json.dumps(message).encode() + b"\n"


class Sockets(threading.Thread):
    """Serves until the machine quits. `control` and `serial` are paths of sockets to make."""

    def __init__(self, machine: Machine, networks: list[Network], control: Path, serial: Path | None) -> None:
        super().__init__(name="sockets", daemon=True)
        self._machine = machine
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._clients: set[Client] = set()
        self._quit_after_answer = False
        if serial:
            self._listen(serial, self._accept_console)
        # Last: once it is there, the agent takes their directory away.
        self._listen(control, self._accept_control)
        self._selector.register(self._wake, selectors.EVENT_READ, self._tell_all)
        for network in networks:
            descriptor = network.fileno()
            if descriptor is not None:
                self._selector.register(descriptor, selectors.EVENT_READ, self._frames_of(network))

    def changed(self) -> None:
        """The machine's status has changed: from any thread."""
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _listen(self, path: Path, accept: Callable[[socket.socket], None]) -> None:
        listening = socket.socket(socket.AF_UNIX)
        # It gets its name when it listens: whoever finds it is answered.
        new = path.with_name("new")
        new.unlink(missing_ok=True)
        listening.bind(os.fspath(new))
        new.chmod(0o600)
        listening.listen(16)
        new.rename(path)
        listening.setblocking(False)

        def ready() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                connection.setblocking(False)
                if len(self._selector.get_map()) < CONNECTIONS:
                    accept(connection)
                else:
                    connection.close()

        self._selector.register(listening, selectors.EVENT_READ, ready)

    # Control

    def _accept_control(self, connection: socket.socket) -> None:
        client = Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(client))

    def _hear(self, client: Client) -> None:
        try:
            content = client.socket.recv(LINE_LIMIT)
        except BlockingIOError:
            content = None
        except OSError:
            content = b""
        if content == b"" or len(client.heard) > LINE_LIMIT:
            self._forget(client)
            return
        *lines, client.heard = (client.heard + (content or b"")).split(b"\n")
        for line in lines:
            client.say(self._answer(client, line))
        self._send(client)
        if self._quit_after_answer:
            self._machine.post(self._machine.quit)

    def _send(self, client: Client) -> None:
        """Send what can be sent; who does not read is not waited for."""
        try:
            with contextlib.suppress(BlockingIOError):
                while client.unsent:
                    del client.unsent[: client.socket.send(client.unsent)]
        except OSError:
            self._forget(client)
            return
        if len(client.unsent) > LINE_LIMIT * 4:
            self._forget(client)
        elif client.unsent:
            self._selector.modify(
                client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, lambda: self._hear(client)
            )
        elif self._selector.get_key(client.socket).events & selectors.EVENT_WRITE:
            self._selector.modify(client.socket, selectors.EVENT_READ, lambda: self._hear(client))

    def _forget(self, client: Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.socket)
            client.socket.close()

    def _tell_all(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        for client in [client for client in self._clients if client.listens]:
            client.say({"event": "power", **self._status()})
            self._send(client)

    # Verbs

    def _answer(self, client: Client, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            verb, arguments = request["execute"], request.get("arguments") or {}
            answer = self._execute(client, verb, arguments)
        except (*CODES, RecursionError) as error:  # type: ignore[misc]
            kind = next((code for known, code in CODES.items() if isinstance(error, known)), "malformed")
            return {"error": {"code": kind, "message": str(error) or type(error).__name__}}
        return {"return": answer}

    def _execute(self, client: Client, verb: str, arguments: dict[str, Any]) -> Any:
        machine = self._machine
        match verb:
            case "status":
                return self._status()
            case "listen":
                client.listens = True
                return self._status()
            case "power_button":
                machine.ask(machine.press_power_button)
            case "reset":
                machine.ask(machine.reset)
            case "pause":
                machine.ask(machine.pause)
            case "resume":
                machine.ask(machine.resume)
            case "snapshot":
                directory = _absolute(arguments["directory"])
                return machine.ask(lambda: machine.snapshot(directory))
            case "restore":
                directory = _absolute(arguments["directory"])
                same = arguments.get("generation") == "same"
                machine.ask(lambda: machine.restore(directory, same_generation=same))
            case "console":
                content, said = machine.console.end()
                return {"content": base64.b64encode(content).decode(), "end": said}
            case "stats":
                return machine.ask(machine.stats)
            case "quit":
                self._quit_after_answer = True
            case _:
                raise ValueError(f"no such verb: {verb!r}")
        return {}

    def _status(self) -> dict[str, Any]:
        machine = self._machine
        return {"power": machine.power, "problem": machine.problem, "curable": machine.curable}

    # Console

    def _accept_console(self, connection: socket.socket) -> None:
        listener = Listener(connection)
        self._machine.console.listeners.append(listener)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._typed(listener))

    def _typed(self, listener: Listener) -> None:
        room = self._machine.computer.uart.room
        try:
            listener.send()
            typed = listener.socket.recv(min(room, 1024)) if room else None
        except BlockingIOError:
            typed = None
        except OSError:
            typed = b""
        if typed == b"":
            self._selector.unregister(listener.socket)
            with contextlib.suppress(ValueError):
                self._machine.console.listeners.remove(listener)
            listener.socket.close()
        elif typed:
            self._machine.ask(lambda: self._machine.computer.uart.feed(typed))
        elif not room:
            # The guest does not read: come back to it, without turning in circles.
            threading.Event().wait(0.01)

    # Network

    def _frames_of(self, network: Network) -> Callable[[], None]:
        def ready() -> None:
            frames = network.receive()
            if frames:
                # Waiting for the guest to take them is what slows the sender down.
                self._machine.ask(lambda: _deliver(network, frames))

        return ready


def _deliver(network: Network, frames: list[bytes]) -> None:
    for frame in frames:
        network.deliver(frame)


def _absolute(path: str) -> Path:
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError("a directory is named by its absolute path")
    return Path(path)
