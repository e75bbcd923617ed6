"""What is said of a way: its hops in their order, and for one that is blocked a call that opens it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from cloud.events.services import Actor
from network.models.security import ICMP, ICMPV6, PROTOCOLS

Verdict = Literal["ok", "blocked", "unknown"]
OK: Verdict = "ok"
BLOCKED: Verdict = "blocked"
UNKNOWN: Verdict = "unknown"
VERDICTS: tuple[Verdict, ...] = (OK, BLOCKED, UNKNOWN)
ASKABLE = ("tcp", "udp", "icmp")  # protocols that can be asked about
FixBy = Literal["", "you", "operator"]


@dataclass(frozen=True)
class Fix:
    """One call of the API. `do` is the service behind it, for pages."""

    method: str
    path: str
    body: dict[str, Any]
    says: str
    do: Callable[[Actor], object] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Hop:
    """One hop: what was looked at, and what was found there, in words. `fix_by`: who can open one that is blocked.
    `seen`: what the host counts there, in words, if it was asked."""

    name: str
    looked_at: str
    verdict: Verdict
    says: str
    fix: Fix | None = None
    fix_by: FixBy = ""
    seen: str = ""


@dataclass(frozen=True)
class Wish:
    """What should be reached: a protocol, and a port where it has ports."""

    protocol: str
    port: int | None = None

    def number(self, family: int) -> int:
        """The protocol's number in IP of this family."""
        return ICMPV6 if self.protocol == "icmp" and family == 6 else PROTOCOLS[self.protocol]

    def __str__(self) -> str:
        return "ping" if self.port is None else f"{self.protocol.upper()} port {self.port}"


@dataclass(frozen=True)
class Packet:
    """A first packet as the rules at one end see it. `remote` None: from anywhere; `groups`: those of the other end."""

    family: int
    wish: Wish
    remote: str | None
    groups: frozenset[UUID] = frozenset()

    @property
    def whole(self) -> str:
        """The range of the other end."""
        if self.remote is None:
            return "::/0" if self.family == 6 else "0.0.0.0/0"
        return f"{self.remote}/{128 if self.family == 6 else 32}"

    @property
    def protocol(self) -> int:
        return self.wish.number(self.family)

    @property
    def echo(self) -> int | None:
        """The ICMP type of a ping."""
        return {ICMP: 8, ICMPV6: 128}.get(self.protocol)


def ok(name: str, looked_at: str, says: str) -> Hop:
    return Hop(name, looked_at, OK, says)


def blocked(name: str, looked_at: str, says: str, fix: Fix | None = None) -> Hop:
    """One that its own people can open, by the fix or otherwise."""
    return Hop(name, looked_at, BLOCKED, says, fix, "you")


def broken(name: str, looked_at: str, says: str) -> Hop:
    """One that only who runs the cloud can open."""
    return Hop(name, looked_at, BLOCKED, says, None, "operator")


def unknown(name: str, looked_at: str, says: str) -> Hop:
    return Hop(name, looked_at, UNKNOWN, says)


def first_blocked(hops: Sequence[Hop]) -> Hop | None:
    return next((hop for hop in hops if hop.verdict == BLOCKED), None)
