"""One question to a guest, as its router would ask it: is anybody at this address, and what answers on this port? Pure.

`frames` are what to send; `hear` reads what the guest sends back, whatever it is.
"""

import ipaddress
import secrets
import struct
from dataclasses import dataclass, field

from network.agent import packets
from network.agent.netlink import mac_bytes
from network.agent.packets import ICMP, ICMPV6, TCP, UDP
from network.agent.specs import PROTOCOLS, Address, as_within, link_local

NOBODY = ipaddress.IPv4Address(0)
BROADCAST = "ff:ff:ff:ff:ff:ff"
ASK, REPLY = 1, 2  # of ARP
SYN, RST, ACK = 0x02, 0x04, 0x10
SOLICIT, ADVERTISE = 135, 136
ECHO, ECHOED, UNREACHABLE, PORT_UNREACHABLE = {4: 8, 6: 128}, {4: 0, 6: 129}, {4: 3, 6: 1}, {4: 3, 6: 4}
OPEN, REFUSED, PROHIBITED, SILENT = "open", "refused", "prohibited", "silent"


@dataclass
class Question:
    """Whom to ask (`mac`, `address`), in whose name (`own_mac`, `source`), and for which port; None: a ping.

    `is_there`: the guest says that it has the address; `answer`: what came of the rest, "" so far.
    """

    mac: str
    address: Address
    own_mac: str
    source: Address
    protocol: str
    port: int | None = None
    is_there: bool = False
    answer: str = ""
    number: int = field(default_factory=lambda: 32768 + secrets.randbelow(28000))  # its own port, or a ping's
    sequence: int = field(default_factory=lambda: secrets.randbits(31))

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.protocol not in ("tcp", "udp", "icmp"):
            raise ValueError(f"nobody can ask by {self.protocol!r}")
        if self.protocol != "icmp":
            as_within(self.port, 1, 65535, "port")

    @property
    def is_answered(self) -> bool:
        return self.is_there and bool(self.answer)

    @property
    def frames(self) -> list[bytes]:
        """What is still to be asked."""
        return ([] if self.is_there else [self._who()]) + ([] if self.answer else [self._what()])

    @property
    def farewell(self) -> bytes:
        """Ends the connection that an answer to the question began."""
        return self._segment(RST, self.sequence + 1)

    def hear(self, frame: bytes) -> None:
        """Take a frame that came from the guest, if it is an answer."""
        if frame[12:14] == packets.ARP_TYPE:
            is_reply = frame[20:22] == struct.pack("!H", REPLY)
            self.is_there |= is_reply and frame[28 : 28 + len(self.address.packed)] == self.address.packed
        elif (read := packets.read(frame)) and read[0].version == self.address.version:
            self._hear(*read)

    def _hear(self, sender: Address, target: Address, protocol: int, payload: bytes) -> None:
        version = self.address.version
        if protocol == ICMPV6 and payload[:1] == bytes([ADVERTISE]):
            self.is_there |= payload[8:24] == self.address.packed
        elif sender != self.address or target != self.source or len(payload) < 8:
            return
        elif protocol in (ICMP, ICMPV6):
            kind, code, _, number = struct.unpack_from("!BBHH", payload)
            if kind == ECHOED[version] and self.protocol == "icmp" and number == self.number:
                self.answer = OPEN
            elif kind == UNREACHABLE[version] and self._is_mine(payload[8:]):
                is_closed = self.protocol == "udp" and code == PORT_UNREACHABLE[version]
                self.answer = REFUSED if is_closed else PROHIBITED
        elif self._numbers(protocol, payload) == (self.port, self.number):
            is_refused = protocol == TCP and len(payload) > 13 and payload[13] & RST
            self.answer = REFUSED if is_refused else OPEN

    def _numbers(self, protocol: int, payload: bytes) -> tuple[int, int] | None:
        is_asked = protocol == PROTOCOLS[self.protocol] and protocol in (TCP, UDP)
        return struct.unpack_from("!HH", payload) if is_asked and len(payload) >= 4 else None

    def _is_mine(self, packet: bytes) -> bool:
        """Whether an error of ICMP is about the question."""
        read = packets.read(bytes(12) + packets.ETHERNET_TYPES[self.address.version] + packet)
        if read is None or read[1] != self.address:
            return False
        if self.protocol == "icmp":
            return read[3][4:6] == struct.pack("!H", self.number)
        return self._numbers(*read[2:]) == (self.number, self.port)

    def _who(self) -> bytes:
        """By an ARP probe (RFC 5227) or a neighbour solicitation, which guests answer whatever routes they have."""
        if self.address.version == 4:
            asked = packets.arp(ASK, self.own_mac, NOBODY, self.address)
            return mac_bytes(BROADCAST) + mac_bytes(self.own_mac) + packets.ARP_TYPE + asked
        group = ipaddress.IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + self.address.packed[-3:])
        option = b"\x01\x01" + mac_bytes(self.own_mac)
        return self._icmpv6(link_local(self.own_mac), group, struct.pack("!BBHI", SOLICIT, 0, 0, 0), option)

    def _icmpv6(self, source: Address, group: Address, head: bytes, option: bytes) -> bytes:
        message = packets.summed(source, group, ICMPV6, head + self.address.packed + option, 2)
        macs = f"33:33:{group.packed[-4:].hex(':')}", self.own_mac
        return packets.packet(macs, source, group, ICMPV6, message)

    def _what(self) -> bytes:
        if self.protocol == "tcp":
            return self._segment(SYN, self.sequence)
        if self.protocol == "udp":
            return self._packet(UDP, struct.pack("!HHHH", self.number, self.port, 8, 0), 6)
        version = self.address.version
        echo = struct.pack("!BBHHH", ECHO[version], 0, 0, self.number, 1)
        return self._packet(ICMP if version == 4 else ICMPV6, echo, 2)

    def _segment(self, flags: int, sequence: int) -> bytes:
        numbers = (self.number, self.port, sequence, 0, 5 << 4, flags, 1024, 0, 0)
        return self._packet(TCP, struct.pack("!HHIIBBHHH", *numbers), 16)

    def _packet(self, protocol: int, segment: bytes, checksum_at: int) -> bytes:
        segment = packets.summed(self.source, self.address, protocol, segment, checksum_at)
        return packets.packet((self.mac, self.own_mac), self.source, self.address, protocol, segment)
