"""Asks the host's network process, over its Unix socket."""

import json
import socket
from pathlib import Path
from typing import Any

from agent.errors import NoAnswer, Refused
from agent.paths import Paths
from network.agent import deltas

SECONDS_TO_ANSWER = 60.0


def socket_path(paths: Paths) -> Path:
    """Where the network process answers."""
    return paths.runtime / "network" / "socket"


class NetworkProcess:
    """Each call is a connection of its own. Raises Refused, with the process's words, and NoAnswer."""

    def __init__(self, paths: Paths, seconds_to_answer: float = SECONDS_TO_ANSWER) -> None:
        self._path = socket_path(paths)
        self._seconds_to_answer = seconds_to_answer
        self._told: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}  # states of resources, and their specs

    def apply(self, type: str, id: str, generation: int, spec: dict[str, Any]) -> dict[str, str]:
        """Make true what a spec says; gives back which parts could not be, and why.

        The process is told what is different from the last time, or all where it does not go on from there.
        """
        of = {"type": type, "id": id, "generation": generation}
        state, before = self._told.pop((type, id), ("", {}))
        different = _copy(deltas.between(before, spec)) if state else None
        answer: dict[str, Any] = {}
        if different:
            answer = self._ask({"do": "change", **of, "since": state, "difference": different})
        if not different or "unknown" in answer:
            different = {"to": _copy(spec)}
            answer = self._ask({"do": "apply", **of, "spec": spec})
        if known := answer.get("state"):
            self._told[type, id] = str(known), deltas.applied(before, different)
        return dict(answer.get("problems", {}))

    def remove(self, type: str, id: str) -> None:
        """Remove a resource; nothing happens when it is not there."""
        self._told.pop((type, id), None)
        self._ask({"do": "remove", "type": type, "id": id})

    def plug(self, port: str, headers: bool = True) -> int:
        """The descriptor of a port's tap, to be closed by the caller. `headers`: with virtio-net headers."""
        with self._connection() as connection:
            _send(connection, {"do": "plug", "port": port, "headers": headers})
            try:
                data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 1)
            except OSError as error:
                raise NoAnswer(f"the host's network process does not answer: {error}") from error
            _answer(data)
            if not descriptors:
                raise NoAnswer(f"the network process gave no tap for port {port}")
            return descriptors[0]

    def introduce(self, port: str, pages: dict[str, str]) -> None:
        """Say what the guest of a port may read as its metadata: texts by path."""
        self._ask({"do": "introduce", "port": port, "pages": pages})

    def unplug(self, port: str) -> None:
        """Remove a port's tap and its guest's metadata; nothing happens when there is none."""
        self._ask({"do": "unplug", "port": port})

    def quarantine(self, id: str, on: bool) -> None:
        """Let nothing plug into a network any more, or let it again."""
        self._ask({"do": "quarantine", "id": id, "on": on})

    def inventory(self) -> dict[str, Any]:
        """{"resources": [{type, id, generation, hash}], "plugged": [port ids], "strangers": [names]}"""
        return self._ask({"do": "inventory"})

    def counters(self) -> dict[str, Any]:
        """{"ports": {port id: counts}}: {received,sent}_{packets,bytes} as the guest sees them, and packets "dropped"
        by reason."""
        return self._ask({"do": "counters"})

    def probe(
        self,
        port: str,
        address: str,
        protocol: str,
        number: int | None = None,
        *,
        outside: str | None = None,
        towards: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What is seen of a port's guest, and whether it answers at this address and port (`examining` has the shape).
        `outside`: what leads there; `towards`: {"address", "protocol", "number"} that it should reach. Takes up to two
        seconds."""
        about = {"port": port, "address": address, "protocol": protocol, "number": number}
        return self._ask({"do": "probe", **about, "outside": outside, "towards": towards})

    def capabilities(self) -> dict[str, Any]:
        """{"networks": bool, "tracking", "overlay", "taps", "missing": {part: words}, "way_out": "" or words}"""
        return self._ask({"do": "capabilities"})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._connection() as connection:
            _send(connection, request)
            data = bytearray()
            while not data.endswith(b"\n"):
                if not (part := _received(connection)):
                    break
                data += part
            return _answer(bytes(data))

    def _connection(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(self._seconds_to_answer)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise NoAnswer(f"the host's network process does not answer: {error.strerror}") from error
        return connection


def _copy(value: Any) -> Any:
    """Of what is told: it is kept, and nobody else changes it."""
    return json.loads(json.dumps(value))


def _send(connection: socket.socket, request: dict[str, Any]) -> None:
    try:
        connection.sendall(json.dumps(request).encode() + b"\n")
    except OSError as error:
        raise NoAnswer(f"the host's network process does not listen: {error}") from error


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 20)
    except OSError as error:
        raise NoAnswer(f"the host's network process does not answer: {error}") from error


def _answer(data: bytes) -> dict[str, Any]:
    if not data:
        raise NoAnswer("the host's network process ended before it had answered")
    answer: dict[str, Any] = json.loads(data)
    if "problem" in answer:
        raise Refused(answer["problem"])
    return answer
