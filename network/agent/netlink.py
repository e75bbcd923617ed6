"""What the present network namespace has of links, addresses, routes and neighbours, over netlink(7).

A `Netlink` keeps the namespace in which it was made. `messages` builds what changes something; messages are sent many
at a time: forwarding entries of a large network come by the thousand.
"""

import ipaddress
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from network.agent.specs import Address, Interface, Network

ROUTE, NETFILTER = 0, 12
REQUEST, ACK, REPLACE, EXCL, CREATE, APPEND, DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800, 0x300
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NLMSG_ERROR, NLMSG_DONE = 2, 3
NESTED = 0x8000
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
MAX_MESSAGES_AT_ONCE = 300  # their acknowledgements fit into the receive buffer of an ordinary user
UP, LOWER_UP = 0x1, 0x10000
AF_BRIDGE = 7
PERMANENT, NOARP, REACHABLE = 0x80, 0x40, 0x02
SELF, MASTER, PROXY = 2, 4, 8  # which table: the device's own, that of its bridge, or of what it answers for
NO_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True)
class Message:
    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True)
class Link:
    """A network device. `carrier`: somebody is at the other end; of a tap, the program that is the guest. `received`
    and `sent` are packets and bytes as the device counts them."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    master: int
    received: tuple[int, int]
    sent: tuple[int, int]


class Netlink:
    """A socket to the kernel's tables. Errors are OSErrors with the kernel's own words where it has any."""

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.setsockopt(SOL_NETLINK, CAP_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, EXT_ACK, 1)
        self._numbers = itertools.count(1)

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *messages: Message) -> None:
        """Send messages in order; raises the first error after all of its batch were tried."""
        remaining = iter(messages)
        while batch := list(itertools.islice(remaining, MAX_MESSAGES_AT_ONCE)):
            data = b"".join(self._packed(message, ACK) for message in batch)
            self._socket.send(data)
            problem: OSError | None = None
            for kind, body in itertools.islice(self._received(), len(batch)):
                if kind == NLMSG_ERROR:
                    problem = problem or _error(body)
            if problem:
                raise problem

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all answers to a question for a whole table."""
        self._socket.send(self._packed(Message(kind, DUMP, body), 0))
        answers = []
        for answer, content in self._received():
            if answer == NLMSG_DONE:
                break
            if answer == NLMSG_ERROR:
                raise _error(content) or OSError("the kernel refused to list a table")
            answers.append(content)
        return answers

    def links(self) -> dict[str, Link]:
        """All devices by name."""
        found = (_link(body) for body in self.dump(GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)))
        return {link.name: link for link in found}

    def addresses(self, index: int) -> set[Interface]:
        """A device's addresses, without the kernel's own link-local one."""
        found = set()
        for body in self.dump(GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
            _, prefix, _, _, owner = struct.unpack_from("=BBBBi", body)
            values = parse(body[8:])
            value = ipaddress.ip_address(values.get(2) or values[1])
            if owner == index and not (value.version == 6 and prefix == 64 and value.is_link_local):
                found.add(ipaddress.ip_interface((value, prefix)))
        return found

    def routes(self) -> dict[Network, tuple[int, Address | None]]:
        """The main table: destination to device and gateway. Without what the kernel adds by itself."""
        found: dict[Network, tuple[int, Address | None]] = {}
        for body in self.dump(GETROUTE, bytes(12)):
            family, prefix, _, _, table, origin, _, kind = struct.unpack_from("=8B", body)
            if table != 254 or kind != 1 or origin == 2 or family not in (socket.AF_INET, socket.AF_INET6):
                continue
            values = parse(body[12:])
            start = values.get(1, bytes(4 if family == socket.AF_INET else 16))
            gateway = ipaddress.ip_address(values[5]) if 5 in values else None
            network = ipaddress.ip_network((start, prefix))
            found.setdefault(network, (struct.unpack("=I", values[4])[0] if 4 in values else 0, gateway))
        return found

    def neighbours(self, index: int) -> dict[Address, str]:
        """The permanent neighbours of a device."""
        found = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            for body in self.dump(GETNEIGH, struct.pack("=BBHiHBB", family, 0, 0, 0, 0, 0, 0)):
                _, _, _, device, state, _, _ = struct.unpack_from("=BBHiHBB", body)
                values = parse(body[12:])
                if device == index and state & PERMANENT and 2 in values:
                    found[ipaddress.ip_address(values[1])] = values[2].hex(":")
        return found

    def proxies(self, index: int) -> set[Address]:
        """The IPv4 addresses that a device answers for, although they are elsewhere."""
        found = set()
        for body in self.dump(GETNEIGH, struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, 0, 0, PROXY, 0)):
            device, flags = struct.unpack_from("=4xi2xB", body)
            if device == index and flags & PROXY:
                found.add(ipaddress.ip_address(parse(body[12:])[1]))
        return found

    def forwarding(self, index: int) -> tuple[set[str], set[tuple[str, Address]]]:
        """What a bridge's port is said to lead to: MACs in the bridge's table, and (MAC, peer) in an overlay's own."""
        macs, peers = set(), set()
        for body in self.dump(GETNEIGH, struct.pack("=BBHiHBB", AF_BRIDGE, 0, 0, 0, 0, 0, 0)):
            _, _, _, device, state, flags, _ = struct.unpack_from("=BBHiHBB", body)
            values = parse(body[12:])
            if device != index:
                continue
            if 1 in values:
                peers.add((values[2].hex(":"), ipaddress.ip_address(values[1])))
            elif state & NOARP and flags & SELF == 0:
                macs.add(values[2].hex(":"))
        return macs, peers

    def _packed(self, message: Message, flags: int) -> bytes:
        length = 16 + len(message.body)
        header = struct.pack("=IHHII", length, message.kind, REQUEST | flags | message.flags, next(self._numbers), 0)
        return header + message.body + bytes(-length % 4)

    def _received(self) -> Iterator[tuple[int, bytes]]:
        while True:
            data = self._socket.recv(1 << 20)
            at = 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                yield kind, data[at + 16 : at + length]
                at += length + 3 & ~3


def _error(body: bytes) -> OSError | None:
    number = -struct.unpack_from("=i", body)[0]
    if number == 0:
        return None
    words = parse(body[20:]).get(1, b"").rstrip(b"\0").decode(errors="replace") if len(body) > 24 else ""
    return OSError(number, words or os.strerror(number))


def attribute(kind: int, value: bytes | int | str) -> bytes:
    """One attribute: text gets its final NUL, a number is 32 bits wide."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each attribute, without the marks for nesting and byte order."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3


def parse(data: bytes) -> dict[int, bytes]:
    """Attributes by kind."""
    return dict(attributes(data))


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
    values = parse(body[16:])
    kind = parse(values.get(18, b"")).get(1, b"")
    stats = struct.unpack_from("=4Q", values[23]) if 23 in values else (0, 0, 0, 0)
    return Link(
        index=index,
        name=values[3].rstrip(b"\0").decode(),
        kind=kind.rstrip(b"\0").decode(),
        mac=values.get(1, b"").hex(":"),
        mtu=struct.unpack("=I", values[4])[0],
        up=bool(flags & UP),
        carrier=bool(flags & LOWER_UP),
        master=struct.unpack("=I", values[10])[0] if 10 in values else 0,
        received=(stats[0], stats[2]),
        sent=(stats[1], stats[3]),
    )
