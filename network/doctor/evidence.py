"""What a host sees of a guest that nobody can reach. It may say anything: what is not of this shape is no answer."""

from dataclasses import dataclass
from typing import Any

from cloud.streams import handover
from network.doctor.hops import Wish
from network.models import Address

# The words of hosts. absent: there is none; idle: no emulator has it open.
ABSENT, IDLE, DOWN, UP = NICS = ("absent", "idle", "down", "up")
# refused: the guest asked for another address than its own.
GIVEN, OFFERED, REFUSED = LEASES = ("given", "offered", "refused")
# refused: nothing listens; prohibited: a firewall says no.
OPEN, CLOSED, PROHIBITED, SILENT = ANSWERS = ("open", "refused", "prohibited", "silent")
# Of what a guest sent to another: nothing that passed the rules, or nothing came back, or something did.
NOTHING, UNANSWERED, ANSWERED = TRIED = ("nothing", "unanswered", "answered")
# Why packets were dropped, as people understand it.
NOT_IP = "not_ip"
SPOOFED = {
    "spoofed_mac": "from a MAC that is not its own",
    "spoofed_arp": "ARP for an address that is not its own",
    "spoofed_address": "from an address that is not its own",
    "spoofed_neighbour": "neighbour advertisements for an address that is not its own",
    "rogue_dhcp": "answers of a DHCP server",
    "rogue_router": "router advertisements",
    NOT_IP: "neither IP nor ARP",
}
NOT_LET_IN, NOT_LET_OUT, NOT_TRACKED = "ingress_refused", "egress_refused", "not_tracked"
REASONS = (*SPOOFED, NOT_LET_IN, NOT_LET_OUT, NOT_TRACKED)
MAX_COUNT = 2**63
MAX_ADDRESS_LENGTH = 39


@dataclass(frozen=True)
class Lease:
    """The last answer of DHCP to a guest; the address is the one that it may have."""

    kind: str
    address: str
    seconds_ago: int


@dataclass(frozen=True)
class Seen:
    """`is_there`: whether the guest said that it has the address; `answer`: what came of a first packet. Both are None
    where nobody was asked. `watched`: for so many seconds its DHCP is remembered. `dropped`: packets by reason.
    `has_rival`: another machine outside has the floating IP. `tried`: what came of what it sent; None: not known."""

    nic: str
    lease: Lease | None
    watched: int
    received: int
    sent: int
    dropped: dict[str, int]
    is_there: bool | None
    answer: str | None
    has_rival: bool
    tried: str | None

    @classmethod
    def read(cls, told: Any) -> "Seen":
        """Raises ValueError."""
        facts = _of(dict, told)
        lease, dropped = facts.get("lease"), _of(dict, facts.get("dropped", {}))
        asked = facts.get("is_there") is not None
        return cls(
            nic=_among(NICS, facts.get("nic")),
            lease=_lease(_of(dict, lease)) if lease is not None else None,
            watched=_count(facts.get("watched_seconds", 0)),
            received=_count(facts.get("received_packets", 0)),
            sent=_count(facts.get("sent_packets", 0)),
            dropped={reason: _count(dropped[reason]) for reason in REASONS if reason in dropped},
            is_there=_of(bool, facts["is_there"]) if asked else None,
            answer=_among(ANSWERS, facts.get("answer")) if asked else None,
            has_rival=_of(bool, facts.get("has_rival", False)),
            tried=_among(TRIED, facts["tried"]) if facts.get("tried") is not None else None,
        )


@dataclass(frozen=True)
class Silence:
    """Why nothing is seen, in words."""

    because: str


def ask(target: Address, wish: Wish, outside: str = "") -> Seen | Silence:
    """Ask the host of an address's port; `outside`: the floating IP that leads there. Waits for the host, three seconds
    at most, so in no transaction."""
    return _ask(target, wish, outside=outside or None)


def ask_sender(source: Address, target: Address, wish: Wish) -> Seen | Silence:
    """Ask the host of the port that should send: whether its guest is there, and what came of what it sent. Waits as
    `ask` does."""
    towards = {"address": target.address, "protocol": wish.protocol, "number": wish.port}
    return _ask(source, Wish("icmp"), towards=towards)


def _ask(of: Address, wish: Wish, **more: Any) -> Seen | Silence:
    assert of.port.host_id is not None
    about = {"what": "probe", "port": str(of.port_id), "address": of.address, "protocol": wish.protocol}
    told = handover.ask_facts(of.port.host_id, {**about, "number": wish.port, **more})
    match told.get("code"):
        case None:
            try:
                return Seen.read(told.get("seen"))
            except ValueError:
                return Silence("Its host's answer makes no sense.")
        case "busy":
            return Silence("Its host is looking at other instances: ask again.")
        case "not_offered":
            return Silence("Its host runs an earlier version, which does not look.")
        case "refused":
            return Silence("Its host does not know this address yet.")
        case _:
            return Silence("Its host did not answer within two seconds.")


def _lease(facts: dict[str, Any]) -> Lease:
    address = _of(str, facts.get("address"))
    if len(address) > MAX_ADDRESS_LENGTH or not set(address) <= set("0123456789abcdef.:"):
        raise ValueError("no address")
    return Lease(_among(LEASES, facts.get("kind")), address, _count(facts.get("seconds_ago")))


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError("another type")
    return value


def _among(known: tuple[str, ...], value: Any) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError("an unknown word")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAX_COUNT:
        raise ValueError("not a count")
    return value
