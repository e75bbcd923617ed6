"""Frames that the network process writes byte by byte. Pure."""

import ipaddress
import struct

from network.agent.netlink import mac_bytes
from network.agent.specs import Address

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
ARP_TYPE, ETHERNET_TYPES = b"\x08\x06", {4: b"\x08\x00", 6: b"\x86\xdd"}
HOP_LIMIT = 255  # neighbours are asked with no less (RFC 4861)


def checksum(data: bytes) -> int:
    """The Internet's checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def summed(source: Address, target: Address, protocol: int, segment: bytes, at: int) -> bytes:
    """A segment with its checksum in place: over the addresses too, but for ICMP of IPv4."""
    pseudo = b"" if protocol == ICMP else source.packed + target.packed + struct.pack("!II", len(segment), protocol)
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment)) + segment[at + 2 :]


def packet(macs: tuple[str, str], source: Address, target: Address, protocol: int, payload: bytes) -> bytes:
    """A frame with an IP packet of either family. `macs`: whom it is for, and from."""
    if source.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
        header += source.packed + target.packed
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, HOP_LIMIT) + source.packed + target.packed
    return b"".join(map(mac_bytes, macs)) + ETHERNET_TYPES[source.version] + header + payload


def arp(operation: int, mac: str, sender: Address, target: Address) -> bytes:
    """Without its Ethernet header: a question (1) for a target, say."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return head + mac_bytes(mac) + sender.packed + bytes(6) + target.packed


def read(frame: bytes) -> tuple[Address, Address, int, bytes] | None:
    """Source, target, protocol and payload of the IP packet in a frame; None where there is none."""
    if frame[12:14] == ETHERNET_TYPES[4] and len(frame) >= 34:
        addresses = ipaddress.IPv4Address(frame[26:30]), ipaddress.IPv4Address(frame[30:34])
        return *addresses, frame[23], frame[14 + (frame[14] & 15) * 4 :]
    if frame[12:14] == ETHERNET_TYPES[6] and len(frame) >= 54:
        addresses6 = ipaddress.IPv6Address(frame[22:38]), ipaddress.IPv6Address(frame[38:54])
        return *addresses6, frame[20], frame[54:]
    return None
