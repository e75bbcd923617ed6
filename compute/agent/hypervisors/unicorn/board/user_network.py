# SPDX-License-Identifier: GPL-2.0-or-later
"""A network with nobody in it but one guest and what gives it an address: nothing else can be reached from it.

It answers ARP (RFC 826) and ICMP echo (RFC 792) for itself, and DHCP (RFC 2131, options of RFC 2132).
"""

import ipaddress
import struct

GUEST, SERVER, MASK = (ipaddress.IPv4Address(text).packed for text in ("10.0.2.15", "10.0.2.2", "255.255.255.0"))
SERVER_MAC = bytes.fromhex("525500000002")
BROADCAST = b"\xff" * 6
LEASE_SECONDS = 86_400
ETHERTYPE_IPV4, ETHERTYPE_ARP = 0x0800, 0x0806
ICMP, UDP = 1, 17
SERVER_PORT, CLIENT_PORT = 67, 68
COOKIE = b"\x63\x82\x53\x63"
DISCOVER, OFFER, REQUEST, ACK, NAK, INFORM = 1, 2, 3, 5, 6, 8
OPTION_MASK, OPTION_HOSTNAME, OPTION_ADDRESS, OPTION_LEASE, OPTION_KIND, OPTION_SERVER = 1, 12, 50, 51, 53, 54
BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s192s4s")


class UserNetwork:
    """`answer` gives what comes back for a frame of the guest."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname.encode()[:255]

    def answer(self, frame: bytes) -> bytes | None:
        try:
            (kind,) = struct.unpack_from("!H", frame, 12)
            if kind == ETHERTYPE_ARP:
                return _answer_arp(frame)
            if kind == ETHERTYPE_IPV4:
                return self._answer_ipv4(frame)
        except (struct.error, IndexError):  # cut short
            pass
        return None

    def _answer_ipv4(self, frame: bytes) -> bytes | None:
        header_size = (frame[14] & 15) * 4
        (total,) = struct.unpack_from("!H", frame, 16)
        protocol, destination = frame[23], frame[30:34]
        payload = frame[14 + header_size : 14 + total]
        if frame[14] >> 4 != 4 or header_size < 20:
            return None
        if protocol == ICMP and destination == SERVER and payload[0] == 8:
            echo = b"\0\0\0\0" + payload[4:]
            echo = echo[:2] + _checksum(echo) + echo[4:]
            return _ipv4(frame[6:12], frame[26:30], ICMP, echo)
        if protocol == UDP and struct.unpack_from("!HH", payload) == (CLIENT_PORT, SERVER_PORT):
            return self._answer_dhcp(payload[8:])
        return None

    def _answer_dhcp(self, message: bytes) -> bytes | None:
        fields = BOOTP.unpack_from(message)
        if fields[0] != 1 or fields[13] != COOKIE:
            return None
        options = _options(message[BOOTP.size :])
        asked = options.get(OPTION_KIND, b"")
        server = options.get(OPTION_SERVER, SERVER)
        if asked == bytes((DISCOVER,)):
            kind = OFFER
        elif asked == bytes((REQUEST,)) and server == SERVER:
            kind = ACK if options.get(OPTION_ADDRESS, fields[7]) == GUEST else NAK
        elif asked == bytes((INFORM,)):
            kind = ACK
        else:
            return None
        return self._dhcp(kind, fields, lease=asked != bytes((INFORM,)))

    def _dhcp(self, kind: int, fields: tuple[bytes, ...], *, lease: bool) -> bytes:
        address = GUEST if kind in (OFFER, ACK) and lease else bytes(4)
        mac = fields[11][:6]
        reply = BOOTP.pack(
            2, 1, 6, 0, fields[4], 0, fields[6], fields[7], address, SERVER, bytes(4), fields[11], bytes(192), COOKIE
        )
        reply += _option(OPTION_KIND, bytes((kind,))) + _option(OPTION_SERVER, SERVER)
        if kind != NAK:
            reply += _option(OPTION_MASK, MASK)
            reply += _option(OPTION_LEASE, struct.pack("!I", LEASE_SECONDS)) if lease else b""
            reply += _option(OPTION_HOSTNAME, self._hostname) if self._hostname else b""
        reply += b"\xff"
        # A checksum of zero means none (RFC 768).
        datagram = struct.pack("!HHHH", SERVER_PORT, CLIENT_PORT, 8 + len(reply), 0) + reply
        return _ipv4(BROADCAST if kind == NAK else mac, b"\xff" * 4, UDP, datagram)


def _answer_arp(frame: bytes) -> bytes | None:
    kind, protocol, sizes, operation = struct.unpack_from("!HHHH", frame, 14)
    sender, sender_address, wanted = frame[22:28], frame[28:32], frame[38:42]
    if (kind, protocol, sizes, operation) != (1, ETHERTYPE_IPV4, 0x0604, 1) or wanted != SERVER:
        return None
    body = struct.pack("!HHHH", 1, ETHERTYPE_IPV4, 0x0604, 2) + SERVER_MAC + SERVER + sender + sender_address
    return sender + SERVER_MAC + struct.pack("!H", ETHERTYPE_ARP) + body


def _ipv4(mac: bytes, address: bytes, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, SERVER, address)
    header = header[:10] + _checksum(header) + header[12:]
    return mac + SERVER_MAC + struct.pack("!H", ETHERTYPE_IPV4) + header + payload


def _checksum(content: bytes) -> bytes:
    """RFC 1071."""
    content += bytes(len(content) % 2)
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _option(code: int, content: bytes) -> bytes:
    return bytes((code, len(content))) + content


def _options(content: bytes) -> dict[int, bytes]:
    found, place = {}, 0
    while place < len(content) and content[place] != 255:
        if content[place] == 0:
            place += 1
            continue
        size = content[place + 1]
        found[content[place]] = content[place + 2 : place + 2 + size]
        place += 2 + size
    return found
