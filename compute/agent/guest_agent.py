"""Talks to the QEMU guest agent in a guest, which belongs to a stranger.

Nothing that is said there is believed further than it has to be, waited for longer than agreed, or shown to anybody.
Each talk has a connection of its own and begins with a random number that the agent has to repeat: what an earlier talk
left in the channel is passed over.
Source: QEMU Guest Agent Protocol Reference, `guest-sync-delimited`.
"""

import base64
import contextlib
import json
import re
import secrets
import socket
import time
from collections.abc import Iterator
from typing import Any

from agent.errors import NoAnswer
from compute.agent import sockets
from compute.agent.homes import Home

FREEZE, PASSWORD = "freeze", "password"
# What an agent can do for us, by the commands that it takes: distributions and owners of guests switch some off.
ABILITIES = {
    FREEZE: {"guest-fsfreeze-freeze", "guest-fsfreeze-thaw"},
    PASSWORD: {"guest-set-user-password"},
}
SECONDS_TO_SYNC = 3.0
SECONDS_TO_ANSWER = 5.0
SECONDS_TO_FREEZE = 20.0  # all that was written goes to the disks first
MAX_HEARD = 64 << 10  # bytes in one talk: the longest answer, to guest-info, has about 6 KiB
MAX_BRACKETS = 1000  # in one answer, so no more levels either
SENTINEL = b"\xff"  # in no JSON: resets whoever reads
VERSION = re.compile(r"[0-9A-Za-z.+~-]{1,40}")


class Declined(NoAnswer):
    """The agent has answered that it does not do this."""


class GuestAgent:
    """One talk with an agent. Every method may raise NoAnswer; then the talk is over."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = bytearray()
        self._room = MAX_HEARD

    def sync(self) -> None:
        """Find where the answers to this talk begin."""
        ident, deadline = secrets.randbelow(1 << 31), time.monotonic() + SECONDS_TO_SYNC
        try:
            self._send(SENTINEL, "guest-sync-delimited", {"id": ident})
            while True:
                self._read_to(SENTINEL, deadline)
                line = self._read_to(b"\n", deadline).rpartition(SENTINEL)[2]
                with contextlib.suppress(*sockets.NO_SENSE):
                    if _parse(line)["return"] == ident:
                        return
        except (OSError, *sockets.NO_SENSE) as error:
            raise NoAnswer(f"the guest agent does not answer: {error or type(error).__name__}") from error

    def ask(self, command: str, arguments: dict[str, Any] | None = None, seconds: float = SECONDS_TO_ANSWER) -> Any:
        """What the agent returns: any JSON. Raises Declined as well."""
        try:
            self._send(b"", command, arguments or {})
            answer = _parse(self._read_to(b"\n", time.monotonic() + seconds))
            if "return" in answer:
                return answer["return"]
        except (OSError, *sockets.NO_SENSE) as error:
            raise NoAnswer(f"the guest agent, {command}: {error or type(error).__name__}") from error
        raise Declined(f"the guest agent, {command}: {str(answer)[:200]!r}")

    def freeze(self) -> int:
        """How many file systems stand still now."""
        return _count(self.ask("guest-fsfreeze-freeze", seconds=SECONDS_TO_FREEZE))

    def thaw(self) -> int:
        """How many file systems go on that stood still."""
        return _count(self.ask("guest-fsfreeze-thaw"))

    def set_password(self, user: str, hashed: str) -> None:
        password = base64.b64encode(hashed.encode()).decode()
        try:
            self.ask("guest-set-user-password", {"username": user, "password": password, "crypted": True})
        except Declined:  # its words may repeat what it was told
            raise Declined("the guest agent declines to set a password") from None

    def introduce(self) -> dict[str, Any]:
        """{"version", "can": words of ABILITIES}. The version may be empty."""
        said = self.ask("guest-info")
        try:
            enabled = {one["name"] for one in said["supported_commands"] if one.get("enabled", True)}
            version = str(said.get("version"))
        except sockets.NO_SENSE as error:
            raise NoAnswer("the guest agent, guest-info: it makes no sense") from error
        can = [ability for ability, needed in ABILITIES.items() if needed <= enabled]
        return {"version": version if VERSION.fullmatch(version) else "", "can": can}

    def _send(self, before: bytes, command: str, arguments: dict[str, Any]) -> None:
        request = json.dumps({"execute": command, "arguments": arguments}).encode()
        self._connection.settimeout(SECONDS_TO_SYNC)
        self._connection.sendall(before + request + b"\n")

    def _read_to(self, end: bytes, deadline: float) -> bytes:
        """All up to the first `end`, which is passed over. Raises OSError, and ValueError when there is too much."""
        while (place := self._heard.find(end)) < 0:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            if self._room <= 0:
                raise ValueError(f"more than {MAX_HEARD} bytes")
            self._connection.settimeout(left)
            piece = self._connection.recv(min(self._room, 4096))
            if not piece:
                raise ConnectionError("the channel was closed")
            self._room -= len(piece)
            self._heard += piece
        found = bytes(self._heard[:place])
        del self._heard[: place + len(end)]
        return found


@contextlib.contextmanager
def talk(home: Home) -> Iterator[GuestAgent]:
    """A talk with the agent in a machine's guest. One at a time: the machine's lock is held. Raises NoAnswer."""
    try:
        connection = sockets.connect(home, home.agent_socket, SECONDS_TO_SYNC)
    except OSError as error:
        raise NoAnswer(f"no channel to the guest agent: {error}") from error
    with connection:
        agent = GuestAgent(connection)
        agent.sync()
        yield agent


def meet(home: Home) -> dict[str, Any]:
    """See `GuestAgent.introduce`. Raises NoAnswer."""
    with talk(home) as agent:
        return agent.introduce()


def fact(home: Home) -> dict[str, Any]:
    """That a running machine has a channel to its guest's agent. Those that an older release started have none."""
    return {"agent_channel": True} if sockets.exists(home.agent_socket) else {}


def can(facts: dict[str, Any], ability: str) -> bool:
    """Whether the agent that has introduced itself, by the facts about its machine, can do this."""
    return ability in (facts.get("guest_agent") or {}).get("can", ())


def _parse(line: bytes) -> dict[str, Any]:
    """An answer. Raises one of NO_SENSE."""
    if line.count(b"{") + line.count(b"[") > MAX_BRACKETS:
        raise ValueError(f"more than {MAX_BRACKETS} brackets")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise TypeError("no object")
    return answer


def _count(answer: Any) -> int:
    return answer if isinstance(answer, int) and not isinstance(answer, bool) else 0
