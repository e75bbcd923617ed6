"""Ethernet frames as guests send them, good and bad, built by hand."""

import ipaddress
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
SYN, ACK, RST, FIN = 0x02, 0x10, 0x04, 0x01


def mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def ip(value: str) -> bytes:
    return ipaddress.ip_address(value).packed


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", kind) + payload


def arp(
    source: str, sender_ip: str, target_ip: str, *, sender_mac: str = "", to: str = BROADCAST, reply: bool = False
) -> bytes:
    """`source` sends; `sender_mac` is whose address it claims."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2 if reply else 1) + mac(sender_mac or source) + ip(sender_ip)
    return ethernet(source, to, 0x0806, body + bytes(6) + ip(target_ip))


def ipv4(source: str, target: str, sender: str, receiver: str, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + ip(sender) + ip(receiver)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return ethernet(source, target, 0x0800, header + payload)


def ipv6(source: str, target: str, sender: str, receiver: str, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + ip(sender) + ip(receiver)
    return ethernet(source, target, 0x86DD, header + payload)


def _summed(sender: str, receiver: str, protocol: int, segment: bytes, at: int) -> bytes:
    pseudo = ip(sender) + ip(receiver) + struct.pack("!II", len(segment), protocol)
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment)) + segment[at + 2 :]


def udp(source: str, target: str, sender: str, receiver: str, ports: tuple[int, int], data: bytes = b"hello") -> bytes:
    segment = _summed(sender, receiver, 17, struct.pack("!HHHH", *ports, 8 + len(data), 0) + data, 6)
    return (ipv6 if ":" in sender else ipv4)(source, target, sender, receiver, 17, segment)


def tcp(
    source: str,
    target: str,
    sender: str,
    receiver: str,
    ports: tuple[int, int],
    flags: int,
    numbers: tuple[int, int] = (1, 0),
) -> bytes:
    segment = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 65535, 0, 0)
    return (ipv6 if ":" in sender else ipv4)(
        source, target, sender, receiver, 6, _summed(sender, receiver, 6, segment, 16)
    )


def ping(source: str, target: str, sender: str, receiver: str, number: int = 1, reply: bool = False) -> bytes:
    body = struct.pack("!BBHHH", 0 if reply else 8, 0, 0, 7, number) + b"ping"
    return ipv4(source, target, sender, receiver, 1, body[:2] + struct.pack("!H", checksum(body)) + body[4:])


def hidden(frame: bytes, header: int = 60) -> bytes:
    """The same IPv6 packet behind an extension header (60: destination options, 0: hop by hop), which says nothing."""
    length, following = struct.unpack_from("!HB", frame, 18)
    options = bytes([following, 0, 1, 4, 0, 0, 0, 0])
    return frame[:18] + struct.pack("!HB", length + 8, header) + frame[21:54] + options + frame[54:]


def icmpv6(source: str, target: str, sender: str, receiver: str, kind: int, body: bytes) -> bytes:
    message = _summed(sender, receiver, 58, struct.pack("!BBH", kind, 0, 0) + body, 2)
    return ipv6(source, target, sender, receiver, 58, message)


def neighbour_advertisement(source: str, target: str, sender: str, receiver: str, claimed: str) -> bytes:
    return icmpv6(
        source, target, sender, receiver, 136, struct.pack("!I", 0x20000000) + ip(claimed) + b"\x02\x01" + mac(source)
    )


def duplicate_address_detection(source: str, address: str) -> bytes:
    """The question of one that has no address yet, whether anybody has this one."""
    body = bytes(4) + ip(address)
    return icmpv6(source, f"33:33:ff:{ip(address)[-3:].hex(':')}", "::", "ff02::1:ff00:0", 135, body)


def router_advertisement(source: str, sender: str) -> bytes:
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\x01\x01" + mac(source)
    return icmpv6(source, "33:33:00:00:00:01", sender, "ff02::1", 134, body)


def dhcp(
    source: str, kind: int, *, wanted: str = "", server: str = "", client: str = "0.0.0.0", from_server: bool = False
) -> bytes:
    """A client's message; `from_server`: what only a server may send."""
    options = (
        bytes([53, 1, kind])
        + (b"\x32\x04" + ip(wanted) if wanted else b"")
        + (b"\x36\x04" + ip(server) if server else b"")
    )
    message = struct.pack("!BBBBIHH", 2 if from_server else 1, 1, 6, 0, 0x1234, 0, 0) + ip(client) + bytes(12)
    message += mac(source) + bytes(10 + 192) + b"\x63\x82\x53\x63" + options + b"\xff"
    ports = (67, 68) if from_server else (68, 67)
    return udp(source, BROADCAST, client, "255.255.255.255", ports, message)


def dhcp_options(frame: bytes) -> tuple[str, dict[int, bytes]]:
    """The address and the options of a DHCP answer."""
    message = frame[42:]
    options, at = {}, 240
    while message[at] != 255:
        options[message[at]] = message[at + 2 : at + 2 + message[at + 1]]
        at += 2 + message[at + 1]
    return str(ipaddress.ip_address(message[16:20])), options


def is_dhcp_answer(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:38] == b"\x00\x43\x00\x44"
