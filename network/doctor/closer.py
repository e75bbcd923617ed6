"""What the evidence of a host means: the last hops of a way, which only the host can see, and what it counts on others.

Pure.
"""

from dataclasses import replace

from network.doctor.evidence import (
    ABSENT,
    ANSWERED,
    CLOSED,
    GIVEN,
    IDLE,
    NOT_IP,
    NOT_LET_IN,
    NOT_LET_OUT,
    NOTHING,
    OFFERED,
    OPEN,
    PROHIBITED,
    REFUSED,
    SPOOFED,
    UNANSWERED,
    UP,
    Seen,
    Silence,
)
from network.doctor.hops import Hop, Wish, blocked, broken, ok, unknown
from network.models import Address

SSH = 22
PLUGGED = {
    ABSENT: "The host has made no NIC for it. Stop the instance, then start it.",
    IDLE: "Its NIC is on the host, and no machine is at the other end. Stop the instance, then start it.",
}

SENT = {
    NOTHING: "Nothing of that passed the rules of its host. If nothing blocks the way: try it now, then ask again.",
    UNANSWERED: "It sends, and its packets pass the rules of its host. Nothing has come back.",
    ANSWERED: "It sends, and is answered.",
}


def look(hops: tuple[Hop, ...], seen: Seen | Silence, target: Address, wish: Wish) -> tuple[Hop, ...]:
    """The hops with what the host sees beside them, and those that follow."""
    if isinstance(seen, Silence):
        words = f"{seen.because} What the guest itself does is not known."
        return (*hops, unknown("guest", f"the host of {target.port.holder_name}", words))
    counted = {"nic": _traffic(seen), "ingress": _refused(seen)}
    known = tuple(replace(_astray(hop, seen), seen=counted.get(hop.name, hop.seen)) for hop in hops)
    name = target.port.holder_name or str(target.port)
    found = [_plugged(seen, name)]
    if seen.is_there is not None:
        found.append(_address(seen, target))
    if seen.is_there:
        found.append(_answer(seen, name, wish))
    return (*known, *found)


def look_at_sender(
    hops: tuple[Hop, ...], seen: Seen | Silence, source: Address, target: Address, wish: Wish
) -> tuple[Hop, ...]:
    """The hops with what the sending end's host sees beside them, and what that says of the sending guest."""
    name = source.port.holder_name or str(source.port)
    if isinstance(seen, Silence):
        words = f"{seen.because} What the guest that sends does is not known."
        return (*hops, unknown("sender", f"the host of {name}", words))
    known = tuple(replace(hop, seen=_held_back(seen)) if hop.name == "egress" else hop for hop in hops)
    found = [_plugged(seen, name)]
    if seen.is_there is not None:
        found.append(_address(seen, source, name))
    if seen.tried:
        looked_at = f"what {name} sent to {wish} of {target.address} in the last half minute, TCP in the last two"
        found.append(ok("sender", looked_at, SENT[seen.tried]))
    return (*known, *(replace(hop, name="sender") for hop in found))


def _astray(hop: Hop, seen: Seen) -> Hop:
    """The way in, when somebody else takes what comes by it."""
    if hop.name != "way_in" or not seen.has_rival:
        return hop
    words = "Another machine outside says that it has this address: packets for it go there. "
    return broken(hop.name, hop.looked_at, f"{words}Use another floating IP, until that machine has given it up.")


def _plugged(seen: Seen, name: str) -> Hop:
    looked_at = f"the NIC of {name} on its host"
    if seen.nic == UP:
        return ok("plugged", looked_at, "Its NIC is plugged in, and up.")
    if seen.nic in PLUGGED:
        return blocked("plugged", looked_at, PLUGGED[seen.nic])
    return broken("plugged", looked_at, "Its NIC is switched off on the host.")


def _address(seen: Seen, target: Address, who: str = "The guest") -> Hop:
    """Whether the guest has the address. One that is silent is told what it did with DHCP."""
    address = target.address
    asked = "ARP" if target.subnet.family == 4 else "neighbour discovery"
    looked_at = f"{asked} for {address}, and DHCP"
    if seen.is_there:
        hop = ok("address", looked_at, f"{who} answers {asked} for {address}.")
    else:
        hop = blocked("address", looked_at, f"{who} does not answer {asked} for {address}. {_why(seen, target)}")
    return replace(hop, seen=" ".join(filter(None, (_lease(seen, target), _spoofed(seen)))))


def _why(seen: Seen, target: Address) -> str:
    if seen.lease and seen.lease.kind == GIVEN:
        return "It took an address by DHCP before: has it crashed, or was its NIC set up anew? Look at its console."
    if seen.lease and seen.lease.kind == REFUSED:
        return f"It asks DHCP for another address than its own, {seen.lease.address}, and was refused: renew its lease."
    if seen.lease and seen.lease.kind == OFFERED:
        return "It asks for an address by DHCP, and does not take what it is offered. Look at its console."
    if any(seen.dropped.get(reason) for reason in SPOOFED.keys() - {NOT_IP}):  # which a resumed machine sends as well
        return f"It sends what is not its own, which is dropped. Set its NIC to DHCP, or to {target.address}."
    if seen.sent:
        return "It sends something, and has not asked for this address: is there a DHCP client on this NIC?"
    return "It has sent nothing at all: it has not booted yet, or it has no driver for its NIC. Look at its console."


def _answer(seen: Seen, name: str, wish: Wish) -> Hop:
    looked_at = f"a first packet to {wish} of {name}, from its router"
    program = "sshd is not running in it" if wish == Wish("tcp", SSH) else "the program behind it is not running"
    if seen.answer == OPEN:
        return ok("answer", looked_at, "The machine answers." if wish.port is None else f"{wish} is open in the guest.")
    if seen.answer == CLOSED:
        words = f"The machine answers, but nothing listens on port {wish.port}: {program}, or only on 127.0.0.1."
        return blocked("answer", looked_at, words)
    if seen.answer == PROHIBITED:
        words = f"The machine answers that {wish} is prohibited: a firewall in the guest refuses it."
        return blocked("answer", looked_at, words)
    if wish.protocol == "udp":
        words = f"Nothing refuses {wish}, and nothing answers an empty packet there, which few programs do."
        return unknown("answer", looked_at, words)
    words = f"The machine is there, but {wish} gets no answer: a firewall in the guest drops it, or it is too busy."
    return blocked("answer", looked_at, words)


def _lease(seen: Seen, target: Address) -> str:
    if not target.subnet.dhcp:
        return ""
    if seen.lease is None:
        return f"It has asked for nothing by DHCP in the last {_span(seen.watched)}."
    kinds = {GIVEN: "was given", OFFERED: "was offered", REFUSED: "was refused another address than"}
    return f"By DHCP it {kinds[seen.lease.kind]} {seen.lease.address} {_span(seen.lease.seconds_ago)} ago."


def _spoofed(seen: Seen) -> str:
    told = [f"{words} ({seen.dropped[reason]})" for reason, words in SPOOFED.items() if seen.dropped.get(reason)]
    return f"Dropped of what it sent: {', '.join(told)}." if told else ""


def _traffic(seen: Seen) -> str:
    lost = seen.dropped.get(NOT_LET_OUT, 0)
    refused = f" Its security groups refused {lost} of these." if lost else ""
    return f"Its guest has received {_packets(seen.received)} and sent {seen.sent}.{refused}"


def _held_back(seen: Seen) -> str:
    return f"Its security groups have refused {_packets(seen.dropped.get(NOT_LET_OUT, 0))} that it sent so far."


def _refused(seen: Seen) -> str:
    return f"Its security groups have refused {_packets(seen.dropped.get(NOT_LET_IN, 0))} to it so far."


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count} packets"


def _span(seconds: int) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"
