"""Router advertisements (RFC 4861): what guests learn of their IPv6 subnets, in the name of the router that leads out.

They are sent into each network as whole frames from the router's own MAC, so that guests take the router for their
gateway. Subnets without a router of the cloud are told of by the bridge, which is no gateway. Guests that have their
default route by another NIC are told the same with a router lifetime of 0.
"""

import ipaddress
import socket
import struct
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress

from network.agent.networks import BRIDGE
from network.agent.packets import ICMPV6, packet, summed
from network.agent.rules import SERVICE_ADDRESS6, SERVICE_MAC
from network.agent.specs import Address, NetworkSpec, Port, Subnet, link_local

SOLICIT, ADVERTISE = 133, 134
ALL_NODES = ("33:33:00:00:00:01", ipaddress.IPv6Address("ff02::1"))
ALL_ROUTERS = ipaddress.IPv6Address("ff02::2")
ICMP6_FILTER = 1
SECONDS_BETWEEN = 200.0  # between unsolicited advertisements
ROUTER_SECONDS, VALID_SECONDS, PREFERRED_SECONDS = 1800, 86400, 14400
MANAGED, OTHER = 0x80, 0x40
ON_LINK, AUTONOMOUS = 0x80, 0x40
SLAAC_PREFIX = 64  # the only length from which guests make addresses

Gateways = Mapping[Address, str]  # addresses of routers in a network, and their MACs there
Receiver = tuple[str, ipaddress.IPv6Address]


def listen() -> socket.socket:
    """Hears solicitations in the present network namespace, on its bridge."""
    heard = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, ICMPV6)
    blocked = [0xFFFFFFFF] * 8
    blocked[SOLICIT // 32] ^= 1 << SOLICIT % 32
    heard.setsockopt(ICMPV6, ICMP6_FILTER, struct.pack("=8I", *blocked))
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, BRIDGE.encode())
    group = ALL_ROUTERS.packed + struct.pack("=I", socket.if_nametoindex(BRIDGE))
    heard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    return heard


def serve(heard: socket.socket, frames: socket.socket, spec: NetworkSpec, gateways: Gateways) -> None:
    """Answer a solicitation of one of this host's ports."""
    with suppress(OSError):  # nothing there after all, or the network goes; a guest asks again
        _, (source, *_) = heard.recvfrom(1500)
        address = ipaddress.IPv6Address(source.partition("%")[0])
        if port := next((port for port in spec.local if port.link_local == address), None):
            send(frames, _advertisements(spec, gateways, (port.mac, address), leads=6 not in port.aside))


def send(frames: socket.socket, advertised: list[bytes]) -> None:
    with suppress(OSError):  # the network goes
        for frame in advertised:
            frames.send(frame)


def advertisements(spec: NetworkSpec, gateways: Gateways) -> list[bytes]:
    """Unsolicited advertisements: one for all guests, or one for each where they differ. Pure."""
    if not any(6 in port.aside for port in spec.local):
        return _advertisements(spec, gateways, ALL_NODES, leads=True)

    def to(port: Port) -> list[bytes]:
        return _advertisements(spec, gateways, (port.mac, ALL_NODES[1]), leads=6 not in port.aside)

    return [frame for port in spec.local for frame in to(port)]


def _advertisements(spec: NetworkSpec, gateways: Gateways, to: Receiver, *, leads: bool) -> list[bytes]:
    """One frame for each router that is a gateway here, and one for the subnets that have none."""
    told: dict[str, list[Subnet]] = defaultdict(list)
    for subnet in spec.subnets.values():
        if subnet.network.version == 6:
            mac = gateways.get(subnet.gateway, SERVICE_MAC) if subnet.gateway else SERVICE_MAC
            told[mac].append(subnet)
    return [_frame(mac, to, _advertisement(mac, subnets, spec, leads)) for mac, subnets in sorted(told.items())]


def _advertisement(mac: str, subnets: list[Subnet], spec: NetworkSpec, leads: bool) -> bytes:
    lifetime = ROUTER_SECONDS if leads and mac != SERVICE_MAC else 0
    flags = OTHER | (MANAGED if any(subnet.dhcp for subnet in subnets) else 0)
    message = struct.pack("!BBHBBHII", ADVERTISE, 0, 0, 64, flags, lifetime, 0, 0)
    message += _option(1, bytes.fromhex(mac.replace(":", ""))) + _option(5, struct.pack("!HI", 0, spec.mtu))
    for subnet in subnets:
        makes_addresses = not subnet.dhcp and subnet.network.prefixlen == SLAAC_PREFIX
        marks = ON_LINK | (AUTONOMOUS if makes_addresses else 0)
        times = struct.pack("!III", VALID_SECONDS, PREFERRED_SECONDS, 0)
        message += _option(3, bytes([subnet.network.prefixlen, marks]) + times + subnet.network.network_address.packed)
    # The way to the service for a guest without a gateway (RFC 4191).
    message += _option(24, struct.pack("!BBI", 128, 0, ROUTER_SECONDS) + ipaddress.ip_address(SERVICE_ADDRESS6).packed)
    servers = b"".join(server.packed for server in name_servers(subnets))
    message += _option(25, struct.pack("!HI", 0, ROUTER_SECONDS) + servers)
    return message + _option(31, struct.pack("!HI", 0, ROUTER_SECONDS) + packed_name(spec.domain))


def name_servers(subnets: list[Subnet]) -> list[Address]:
    """The resolvers of IPv6 subnets: their own, or the network's."""
    chosen = [server for subnet in subnets for server in subnet.dns if server.version == 6]
    return list(dict.fromkeys(chosen)) or [ipaddress.ip_address(SERVICE_ADDRESS6)]


def packed_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _option(kind: int, value: bytes) -> bytes:
    """Its length is counted in eights of octets."""
    length = (len(value) + 2 + 7) // 8
    return bytes([kind, length]) + value.ljust(8 * length - 2, b"\0")


def _frame(mac: str, to: Receiver, message: bytes) -> bytes:
    source, (target, receiver) = link_local(mac), to
    return packet((target, mac), source, receiver, ICMPV6, summed(source, receiver, ICMPV6, message, 2))
