"""What this host sees of one guest: its NIC, its lease, its packets, and whether it answers when it is asked.

The question goes straight into the guest's tap, in the name of its router, and answers are read where they come out:
no rule judges either, so silence is the guest's own. What answers TCP is hung up on at once, before any program hears
of it. The rules then drop the answer, as of no connection: it is counted as `not_tracked`.
"""

import contextlib
import ctypes
import ipaddress
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from network.agent import counting, packets
from network.agent.leases import Leases
from network.agent.namespaces import Namespaces
from network.agent.netlink import Netlink
from network.agent.networks import Problem, namespace
from network.agent.questions import SILENT, Question
from network.agent.ra import Gateways
from network.agent.rivals import Rival
from network.agent.rules import SERVICE_ADDRESS, SERVICE_ADDRESS6, SERVICE_MAC
from network.agent.specs import Address, NetworkSpec, Port

SECONDS_TO_ANSWER = 1.5  # an emulated guest takes its time, and whoever asks for all this waits two seconds
SECONDS_BETWEEN_TRIES = 0.3
SO_ATTACH_FILTER, ALL_FRAMES = 26, 3
LOAD_HALF, LOAD_BYTE, LOAD_WORD, JUMP_IF, RETURN = 0x28, 0x30, 0x20, 0x15, 0x06  # of classic BPF
WHOLE_FRAME = 1 << 16
ABSENT, IDLE, DOWN, UP = "absent", "idle", "down", "up"  # idle: no emulator has the tap open


@dataclass
class Examination:
    """What is seen so far, and what is still to be asked of the guest, on a socket at its tap."""

    seen: dict[str, Any]
    question: Question
    wire: socket.socket | None = None
    rival: Rival | None = None

    def finish(self) -> dict[str, Any]:
        """Ask the guest, for a second or two, and give back all that was seen; in whatever thread and namespace.

        {"nic", "watched_seconds", "lease", counts (see `counting`), "is_there": bool or None, "answer": one of
        `questions` or None, "has_rival": bool}; None where nobody was asked. "tried": one of `sending`, where that was
        asked and is known."""
        answered: dict[str, Any] = {"is_there": None, "answer": None}
        if self.wire:
            with self.wire, contextlib.suppress(OSError):  # the tap has gone meanwhile
                self._ask(self.wire)
            answered = {"is_there": self.question.is_there, "answer": self.question.answer or SILENT}
        return self.seen | answered | {"has_rival": bool(self.rival and self.rival.found())}

    def _ask(self, wire: socket.socket) -> None:
        poll, question = select.poll(), self.question
        poll.register(wire, select.POLLIN)
        now = again = time.monotonic()
        end = now + SECONDS_TO_ANSWER
        while now < end and not question.is_answered:
            if now >= again:
                again = now + SECONDS_BETWEEN_TRIES
                for frame in question.frames:
                    wire.send(frame)
            if poll.poll(max(0.0, min(again, end) - now) * 1000):
                question.hear(wire.recv(WHOLE_FRAME))
            now = time.monotonic()
        if question.protocol == "tcp" and question.answer:
            wire.send(question.farewell)


def begin(
    namespaces: Namespaces, spec: NetworkSpec, port: Port, question: Question, leases: Leases | None
) -> Examination:
    """Look at a port, and be ready to ask its guest."""
    seen: dict[str, Any] = leases.describe(port.id, question.address.version) if leases else {}
    with namespaces.within(namespace(spec)):
        with Netlink() as kernel:
            link = kernel.links().get(port.device)
        if link is None:
            return Examination({**seen, "nic": ABSENT}, question)
        seen |= {"nic": (UP if link.carrier else IDLE) if link.up else DOWN, **counting.of_ports(spec).get(port.id, {})}
        return Examination(seen, question, _listen(port.device, question) if seen["nic"] == UP else None)


def question_for(spec: NetworkSpec, port: Port, gateways: Gateways, wish: dict[str, Any]) -> Question:
    """In the name of a router of the address's subnet, or of the network's own service where none has joined it.

    Raises Problem when the port has no such address, ValueError for a question that means nothing."""
    address = ipaddress.ip_address(wish["address"])
    if address not in port.addresses:
        raise Problem(f"port {port.id} does not have the address {address}")
    subnet = spec.subnets[port.subnets[port.addresses.index(address)]].network
    service: Address = ipaddress.ip_address(SERVICE_ADDRESS if address.version == 4 else SERVICE_ADDRESS6)
    source, mac = next(((each, mac) for each, mac in gateways.items() if each in subnet), (service, SERVICE_MAC))
    return Question(port.mac, address, mac, source, wish["protocol"], wish.get("number"))


def _listen(device: str, question: Question) -> socket.socket:
    """A socket at a tap in the present namespace, which hears what may be an answer, however busy the guest is."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    filters = _filter(question.source)
    kept = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in filters))
    wire.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(filters), ctypes.addressof(kept)))
    wire.bind((device, ALL_FRAMES))
    return wire


def _filter(own: Address) -> list[tuple[int, int, int, int]]:
    """Lets through ARP, or ICMPv6, and packets to an address of our own. Jumps count from the next instruction."""
    ether_type = int.from_bytes(packets.ETHERNET_TYPES[own.version], "big")
    ending = int.from_bytes(own.packed[-4:], "big")
    if own.version == 4:
        first = [(LOAD_HALF, 0, 0, 12), (JUMP_IF, 3, 0, int.from_bytes(packets.ARP_TYPE, "big"))]
        first += [(JUMP_IF, 0, 3, ether_type), (LOAD_WORD, 0, 0, 30)]
    else:
        first = [(LOAD_HALF, 0, 0, 12), (JUMP_IF, 0, 5, ether_type)]
        first += [(LOAD_BYTE, 0, 0, 20), (JUMP_IF, 2, 0, packets.ICMPV6), (LOAD_WORD, 0, 0, 50)]
    return [*first, (JUMP_IF, 0, 1, ending), (RETURN, 0, 0, WHOLE_FRAME), (RETURN, 0, 0, 0)]
