"""DHCPv6 (RFC 8415) without leases, like DHCPv4: the answer is a function of the network's spec.

A client is known by the link-local address that it asks from, which is its port's alone; identifiers that clients
make up are given back and decide nothing.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

from network.agent.leases import GIVEN, OFFERED, Heard
from network.agent.networks import BRIDGE
from network.agent.ra import name_servers, packed_name
from network.agent.rules import SERVICE_MAC
from network.agent.specs import Address, NetworkSpec, Port, Subnet

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, INFORM = 1, 2, 3, 4, 5, 6, 7, 8, 9, 11
CLIENT_ID, SERVER_ID, IA_NA, IA_ADDRESS, PREFERENCE, STATUS, RAPID_COMMIT, DNS, SEARCH, IA_PD = (
    1, 2, 3, 5, 7, 13, 14, 23, 24, 25,
)  # fmt: skip
SUCCESS, NO_ADDRESS, NOT_ON_LINK, NO_PREFIX = 0, 2, 4, 6
FOR_A_SERVER = (REQUEST, RENEW, RELEASE, DECLINE)
FOR_ALL_SERVERS = (SOLICIT, CONFIRM, REBIND)
SERVER = struct.pack("!HH", 3, 1) + bytes.fromhex(SERVICE_MAC.replace(":", ""))  # DUID-LL, the same on every host
ALL_SERVERS = ipaddress.IPv6Address("ff02::1:2")
PORT = 547
MAX_MESSAGE = 4096
PREFERRED_SECONDS, VALID_SECONDS = 3600, 7200

Options = list[tuple[int, bytes]]


def listen() -> socket.socket:
    """In the present network namespace, on its bridge."""
    heard = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    heard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, BRIDGE.encode())
    group = ALL_SERVERS.packed + struct.pack("=I", socket.if_nametoindex(BRIDGE))
    heard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    heard.bind(("::", PORT))
    return heard


def serve(heard: socket.socket, spec: NetworkSpec) -> Heard | None:
    """Answer what has arrived, if it is a request of one of this host's ports, and say what that port was told."""
    with suppress(OSError):  # nothing there after all, or the network goes; a client asks again
        message, source = heard.recvfrom(MAX_MESSAGE)
        address = ipaddress.IPv6Address(source[0].partition("%")[0])
        port = next((port for port in spec.local if port.link_local == address), None)
        if port and (reply := answer(message, spec, port)):
            heard.sendto(reply, source)
            own, is_lease = _leases(spec, port), message[0] in (SOLICIT, REQUEST, RENEW, REBIND)
            return Heard(port.id, 6, OFFERED if reply[0] == ADVERTISE else GIVEN, own[0]) if own and is_lease else None
    return None


def answer(message: bytes, spec: NetworkSpec, port: Port) -> bytes | None:
    """The answer to a port's request; None: it is not for us. Pure."""
    if len(message) < 4:
        return None
    kind, options = message[0], _read(message[4:])
    known = dict(options)
    if known.get(SERVER_ID, SERVER) != SERVER or kind not in (*FOR_A_SERVER, *FOR_ALL_SERVERS, INFORM):
        return None
    if kind in FOR_A_SERVER and SERVER_ID not in known or kind in FOR_ALL_SERVERS and SERVER_ID in known:
        return None
    if kind != INFORM and CLIENT_ID not in known:
        return None
    own = _leases(spec, port)
    asked = [(name, value) for name, value in options if name in (IA_NA, IA_PD)]
    given = _option(SERVER_ID, SERVER)
    given += _option(CLIENT_ID, known[CLIENT_ID]) if CLIENT_ID in known else b""
    given += _settings(spec, [subnet for subnet in spec.subnets.values() if subnet.network.version == 6])
    at_once = kind == SOLICIT and RAPID_COMMIT in known
    if kind == CONFIRM:
        claimed = [address for _, value in asked for address in _claimed(value)]
        if not claimed:
            return None
        subnets = [subnet.network for subnet in spec.subnets.values()]
        is_here = all(any(address in subnet for subnet in subnets) for address in claimed)
        given += _status(SUCCESS if is_here else NOT_ON_LINK)
    elif kind in (RELEASE, DECLINE):
        given += _status(SUCCESS)
    elif kind != INFORM:
        given += b"".join(_associations(asked, own))
        given += _option(RAPID_COMMIT, b"") if at_once else b""
        given += _option(PREFERENCE, b"\xff") if kind == SOLICIT else b""  # no need to wait for other servers
    said = ADVERTISE if kind == SOLICIT and not at_once else REPLY
    return bytes([said]) + message[1:4] + given


def _leases(spec: NetworkSpec, port: Port) -> list[Address]:
    """Addresses of a port that are given by DHCPv6."""
    found: list[Address] = []
    for address, id in zip(port.addresses, port.subnets, strict=True):
        subnet = spec.subnets.get(id)
        if address.version == 6 and subnet and subnet.dhcp:
            found.append(address)
    return found


def _associations(asked: Options, own: list[Address]) -> Iterator[bytes]:
    """The first identity gets all addresses; an address that a client has and should not is told to end."""
    given = False
    for kind, value in asked:
        if len(value) < 12:
            continue
        if kind == IA_PD:
            yield _option(IA_PD, value[:4] + bytes(8) + _status(NO_PREFIX))
        elif given or not own:
            yield _option(IA_NA, value[:4] + bytes(8) + _status(NO_ADDRESS))
        else:
            given = True
            times = struct.pack("!II", PREFERRED_SECONDS // 2, PREFERRED_SECONDS * 4 // 5)
            lost = [address for address in _claimed(value) if address not in own]
            leases = b"".join(_lease(address, PREFERRED_SECONDS, VALID_SECONDS) for address in own)
            leases += b"".join(_lease(address, 0, 0) for address in lost)
            yield _option(IA_NA, value[:4] + times + leases)


def _claimed(value: bytes) -> list[Address]:
    """The addresses that an identity association names."""
    options = _read(value[12:])
    return [ipaddress.IPv6Address(data[:16]) for name, data in options if name == IA_ADDRESS and len(data) >= 24]


def _lease(address: Address, preferred: int, valid: int) -> bytes:
    return _option(IA_ADDRESS, address.packed + struct.pack("!II", preferred, valid))


def _settings(spec: NetworkSpec, subnets: list[Subnet]) -> bytes:
    servers = b"".join(server.packed for server in name_servers(subnets))
    return _option(DNS, servers) + _option(SEARCH, packed_name(spec.domain))


def _status(code: int) -> bytes:
    return _option(STATUS, struct.pack("!H", code))


def _option(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value


def _read(data: bytes) -> Options:
    found, at = [], 0
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        if at + 4 + length > len(data):
            break
        found.append((kind, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found
