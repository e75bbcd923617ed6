"""DNS (RFC 1035) for guests: names of their network's machines from its spec, all else from the host's resolvers.

Answers are for the guests of one network: another project's names do not exist here. Those of its own project's other
networks do, with their domain, as a guest with several NICs has one resolver for all. What is asked for beyond goes out
from the host's own network, so guests need no way out for it.
"""

import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from network.agent.specs import Address, NetworkSpec

PORT = 53
MAX_MESSAGE = 4096
MAX_WAITING = 10_000  # questions at the host's resolvers
MAX_WAITING_OF_GUEST = 100
MAX_RESOLVERS = 2
SECONDS_TO_WAIT = 10.0
TTL = 30
A, PTR, AAAA, INTERNET = 1, 12, 28, 1
NO_ERROR, SERVER_FAILED, NO_SUCH_NAME = 0, 2, 3
IS_ANSWER, IS_AUTHORITATIVE, RECURSION_DESIRED, RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0100, 0x0080
REVERSE = {4: "in-addr.arpa", 6: "ip6.arpa"}

Source = tuple[Any, ...]  # as sockets tell it, of either version of IP
Guest = tuple[int, str]


def answer(message: bytes, spec: NetworkSpec, beside: Iterable[NetworkSpec] = ()) -> bytes | None:
    """The answer to a question about the network itself, or one `beside`; None: it is about something else, or no
    question. Pure."""
    question = _question(message)
    if question is None:
        return None
    name, kind, end = question
    for of in (spec, *beside):
        found = _addresses(name, of) if of is spec or name.endswith(f".{of.domain}") else None
        if found is not None:
            records = [each.packed for each in found if kind == (A if each.version == 4 else AAAA)]
            return _reply(message, end, NO_ERROR, [(kind, record) for record in records])
        if kind == PTR and (named := _name_of(name, of)):
            return _reply(message, end, NO_ERROR, [(PTR, _packed(f"{named}.{of.domain}"))])
        if name == of.domain or name.endswith(f".{of.domain}"):
            return _reply(message, end, NO_ERROR if name == of.domain else NO_SUCH_NAME, [])
    return None


def failure(message: bytes) -> bytes | None:
    """The answer without an upstream resolver."""
    question = _question(message)
    return _reply(message, question[2], SERVER_FAILED, []) if question else None


@dataclass
class _Waiting:
    number: bytes
    heard: socket.socket
    source: Source
    until: float


@dataclass
class Forwarder:
    """Passes questions on to the host's resolvers, and their answers back. `outs`: sockets in the host's own network,
    by version of IP. No guest can have so many questions open that none is left for others."""

    outs: Mapping[int, socket.socket]
    resolvers: Path = Path("/etc/resolv.conf")
    _waiting: dict[int, _Waiting] = field(default_factory=dict)  # in the order of their ends
    _asking: Counter[Guest] = field(default_factory=Counter)

    def ask(self, message: bytes, heard: socket.socket, source: Source) -> None:
        """Forward a guest's query. Without an upstream resolver the guest gets an error at once."""
        now = time.monotonic()
        while self._waiting and (number := next(iter(self._waiting))) and self._waiting[number].until < now:
            self._end(number)
        number = int.from_bytes(os.urandom(2), "big") or 1
        is_free = number not in self._waiting and len(self._waiting) < MAX_WAITING
        if is_free and self._asking[_guest(heard, source)] < MAX_WAITING_OF_GUEST:
            passed = number.to_bytes(2, "big") + message[2:]
            if any([self._send(passed, server) for server in self._servers()[:MAX_RESOLVERS]]):
                self._waiting[number] = _Waiting(message[:2], heard, source, now + SECONDS_TO_WAIT)
                self._asking[_guest(heard, source)] += 1
                return
        if reply := failure(message):
            heard.sendto(reply, source)

    def _send(self, message: bytes, server: str) -> bool:
        try:
            self.outs[6 if ":" in server else 4].sendto(message, (server, PORT))
        except (OSError, KeyError):
            return False
        return True

    def hear(self, out: socket.socket) -> None:
        """Pass back what a resolver has answered; the first answer is taken, from a resolver that was asked."""
        message, (server, port, *_) = out.recvfrom(MAX_MESSAGE)
        number = int.from_bytes(message[:2], "big")
        if number in self._waiting and port == PORT and server in self._servers():
            waiting = self._end(number)
            waiting.heard.sendto(waiting.number + message[2:], waiting.source)

    def _end(self, number: int) -> _Waiting:
        waiting = self._waiting.pop(number)
        guest = _guest(waiting.heard, waiting.source)
        self._asking[guest] -= 1
        if not self._asking[guest]:
            del self._asking[guest]
        return waiting

    def _servers(self) -> list[str]:
        """Read each time: a laptop changes its resolvers with the place."""
        try:
            lines = self.resolvers.read_text().splitlines()
        except OSError:
            return []
        return [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]


def _guest(heard: socket.socket, source: Source) -> Guest:
    """Whose question it is: by its network's socket and its address there."""
    return id(heard), source[0]


def _question(message: bytes) -> tuple[str, int, int] | None:
    """Name in lower case, type, and where the question ends; None: not exactly one ordinary question."""
    if len(message) < 17:
        return None
    flags, questions = struct.unpack_from("!HH", message, 2)
    if flags & 0xF800 or questions != 1:
        return None
    labels, at = [], 12
    while at < len(message) and (length := message[at]):
        if length > 63:
            return None
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
    if at + 5 > len(message):
        return None
    kind, network = struct.unpack_from("!HH", message, at + 1)
    if network != INTERNET:
        return None
    return b".".join(labels).decode("ascii", errors="replace").lower(), kind, at + 5


def _addresses(name: str, spec: NetworkSpec) -> list[Address] | None:
    """Of the machine of this name, alone or with the network's domain; None: there is none."""
    label = name.removesuffix(f".{spec.domain}")
    found = [port for port in spec.ports if port.name and port.name == label]
    return [address for port in found for address in port.addresses] if found else None


def _name_of(name: str, spec: NetworkSpec) -> str | None:
    for port in spec.ports:
        if port.name and any(address.reverse_pointer == name for address in port.addresses):
            return port.name
    return None


def _packed(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _reply(message: bytes, end: int, code: int, records: list[tuple[int, bytes]]) -> bytes:
    """The question again, with answers that point back to its name (offset 12)."""
    asked = struct.unpack_from("!H", message, 2)[0] & RECURSION_DESIRED
    flags = IS_ANSWER | IS_AUTHORITATIVE | RECURSION_AVAILABLE | asked | code
    reply = message[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + message[12:end]
    for kind, data in records:
        reply += struct.pack("!HHHIH", 0xC00C, kind, INTERNET, TTL, len(data)) + data
    return reply
