"""DHCPv4 (RFC 2131) without leases: the answer is a function of the network's spec, so there is nothing to remember.

A port's address is its own for as long as the port exists; a port that is deleted and made anew gets an answer at once.
"""

import ipaddress
import socket
import struct
from dataclasses import dataclass

from network.agent.leases import GIVEN, OFFERED, REFUSED, Heard
from network.agent.networks import BRIDGE
from network.agent.packets import UDP, packet
from network.agent.rules import SERVICE_ADDRESS, SERVICE_MAC
from network.agent.specs import Address, Network, NetworkSpec, Port, Subnet

DISCOVER, OFFER, REQUEST, ACK, NAK, INFORM = 1, 2, 3, 5, 6, 8
LEASE_SECONDS = 3600
MAGIC = b"\x63\x82\x53\x63"
MIN_LENGTH = 300  # of BOOTP's messages; some relays and clients drop shorter ones
SERVER = ipaddress.ip_address(SERVICE_ADDRESS)
NOWHERE = bytes(4)
MASK, ROUTER, DNS, HOST_NAME, DOMAIN, MTU, WANTED, LEASE, KIND, ID, SEARCH, ROUTES = (
    1, 3, 6, 12, 15, 26, 50, 51, 53, 54, 119, 121,
)  # fmt: skip


@dataclass(frozen=True)
class Sockets:
    """Of one network: requests are heard at `heard`; answers leave as whole frames, for a guest without an address."""

    heard: socket.socket
    frames: socket.socket

    @classmethod
    def open(cls) -> "Sockets":
        """In the present network namespace, on its bridge."""
        heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, BRIDGE.encode())
        heard.bind(("0.0.0.0", 67))  # noqa: S104
        frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        frames.bind((BRIDGE, 0))
        return cls(heard, frames)

    def close(self) -> None:
        self.heard.close()
        self.frames.close()


def serve(sockets: Sockets, spec: NetworkSpec) -> Heard | None:
    """Answer what has arrived, if it is a request of one of the network's ports, and say what that port was told."""
    try:
        message = sockets.heard.recv(4096)
        if reply := answer(message, spec):
            sockets.frames.send(reply)
            return _heard(message, spec)
    except OSError:
        pass  # nothing there after all, or the network goes; a client asks again
    return None


def _heard(message: bytes, spec: NetworkSpec) -> Heard | None:
    """What the answer to a message said of the lease."""
    found, kind = _address_of(message[28:34].hex(":"), spec), _options(message[240:])[KIND][0]
    if found is None or kind == INFORM:
        return None
    port, _, address = found
    if kind == DISCOVER:
        return Heard(port.id, 4, OFFERED, address)
    return Heard(port.id, 4, GIVEN if _wanted(message) == address.packed else REFUSED, address)


def _wanted(message: bytes) -> bytes:
    """The address that a client asks for, or has."""
    return _options(message[240:]).get(WANTED) or message[12:16]


def answer(message: bytes, spec: NetworkSpec) -> bytes | None:
    """The frame that answers a request; None: it is not for us. Pure."""
    if len(message) < 240 or message[0] != 1 or message[236:240] != MAGIC:
        return None
    mac = message[28:34].hex(":")
    found = _address_of(mac, spec)
    options = _options(message[240:])
    kind = options.get(KIND, b"\0")[0]
    if found is None or kind not in (DISCOVER, REQUEST, INFORM) or options.get(ID, SERVER.packed) != SERVER.packed:
        return None
    port, subnet, address = found
    if kind == REQUEST and _wanted(message) != address.packed:
        return _frame(message, mac, NOWHERE, _option(KIND, bytes([NAK])) + _option(ID, SERVER.packed))
    given = _option(KIND, bytes([OFFER if kind == DISCOVER else ACK])) + _option(ID, SERVER.packed)
    if kind != INFORM:
        given += _option(LEASE, struct.pack("!I", LEASE_SECONDS))
    given += _settings(spec, port, subnet)
    return _frame(message, mac, NOWHERE if kind == INFORM else address.packed, given)


def _address_of(mac: str, spec: NetworkSpec) -> tuple[Port, Subnet, Address] | None:
    for port in spec.local:
        if port.mac != mac:
            continue
        for address, id in zip(port.addresses, port.subnets, strict=True):
            subnet = spec.subnets.get(id)
            if address.version == 4 and subnet and subnet.dhcp:
                return port, subnet, address
    return None


def _settings(spec: NetworkSpec, port: Port, subnet: Subnet) -> bytes:
    servers: list[Address] = [server for server in subnet.dns if server.version == 4] or [SERVER]
    gateway = None if 4 in port.aside else subnet.gateway
    routes: list[tuple[Network, Address]] = [
        (ipaddress.ip_network(SERVER), ipaddress.ip_address(NOWHERE)),  # on the wire itself
        *subnet.routes,
    ]
    if gateway:  # clients that take option 121 ignore option 3 (RFC 3442)
        routes.append((ipaddress.ip_network("0.0.0.0/0"), gateway))
    found = _option(MASK, subnet.network.netmask.packed)
    found += _option(ROUTER, gateway.packed) if gateway else b""
    if 4 not in port.aside:  # one NIC tells of resolvers, or which one a guest asks is chance
        found += _option(DNS, b"".join(server.packed for server in servers)) + _option(DOMAIN, spec.domain.encode())
    found += _option(MTU, struct.pack("!H", min(spec.mtu, 0xFFFF)))
    found += _option(HOST_NAME, port.name.encode()) if port.name else b""
    return found + _option(ROUTES, b"".join(_route(to, via) for to, via in routes if to.version == 4))


def _route(destination: Network, via: Address) -> bytes:
    """RFC 3442: the length, as many octets as it needs, and the router."""
    length = destination.prefixlen
    return bytes([length]) + destination.network_address.packed[: (length + 7) // 8] + via.packed


def _options(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        if at + 1 >= len(data) or at + 2 + data[at + 1] > len(data):
            break
        length = data[at + 1]
        if length:
            found[data[at]] = data[at + 2 : at + 2 + length]
        at += 2 + length
    return found


def _option(kind: int, value: bytes) -> bytes:
    """One option; what does not fit into 255 octets is split (RFC 3396)."""
    parts = [value[at : at + 255] for at in range(0, len(value), 255)]
    return b"".join(bytes([kind, len(part)]) + part for part in parts)


def _frame(request: bytes, mac: str, address: bytes, options: bytes) -> bytes:
    """A reply inside UDP, IPv4 and Ethernet, straight to the client's MAC."""
    client, transaction, flags, gateway = request[12:16], request[4:8], request[10:12], bytes(4)
    message = struct.pack("!BBBB", 2, 1, 6, 0) + transaction + bytes(2) + flags + client + address + SERVER.packed
    message += gateway + request[28:44] + bytes(192) + MAGIC + options + b"\xff"
    message += bytes(max(0, MIN_LENGTH - len(message)))
    is_broadcast = address == NOWHERE and client == NOWHERE or flags[0] & 0x80
    to = b"\xff" * 4 if is_broadcast else address if address != NOWHERE else client
    udp = struct.pack("!HHHH", 67, 68, 8 + len(message), 0)
    return packet((mac, SERVICE_MAC), SERVER, ipaddress.ip_address(to), UDP, udp + message)
