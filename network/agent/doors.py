"""How packets for floating IPs find this host and, on it, their router: routes, and answers to ARP."""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Mapping

from network.agent import messages
from network.agent.netlink import Link, Netlink, mac_bytes
from network.agent.networks import sysctl
from network.agent.specs import Address, Network

ARP = 0x0806
BROADCAST = b"\xff" * 6
Pairs = frozenset[tuple[str, ...]]  # (device, address)


def lead(kernel: Netlink, links: Mapping[str, Link], routers: Mapping[str, str], floating: Pairs) -> None:
    """Routes to routers' own addresses, and by those to what leads in, and no others. `routers`: device: address."""
    wanted: dict[Network, tuple[int, Address | None]] = {}
    for device, address in routers.items():
        if device in links:
            wanted[ipaddress.ip_network(address)] = (links[device].index, None)
    for device, address in floating:
        if device in links:
            wanted[ipaddress.ip_network(address)] = (links[device].index, ipaddress.ip_address(routers[device]))
    ours = {index for index, _ in wanted.values()}
    present = {network: way for network, way in kernel.routes().items() if way[0] in ours}
    kernel.send(
        *(messages.route(network, *way, add=False) for network, way in present.items() if network not in wanted),
        *(messages.route(network, *way) for network, way in wanted.items() if present.get(network) != way),
    )


def answer(kernel: Netlink, links: Mapping[str, Link], before: Pairs, wanted: Pairs) -> None:
    """Answer ARP for these addresses on the segments of these devices, no more for those `before`; tell neighbours."""
    for device in {device for device, _ in before | wanted} & links.keys():
        index = links[device].index
        present = kernel.proxies(index)
        own = {ipaddress.ip_address(address) for name, address in wanted if name == device}
        gone = {ipaddress.ip_address(address) for name, address in before if name == device} - own
        if own:
            sysctl(f"ipv4/neigh/{device}/proxy_delay", 0)  # otherwise the kernel hesitates for up to a second
        kernel.send(
            *(messages.proxy(index, address, add=False) for address in gone & present),
            *(messages.proxy(index, address) for address in own - present),
        )
    for device, address in wanted - before:
        if device in links:
            _announce(links[device], address)


def _announce(link: Link, address: str) -> None:
    """Tell the neighbours of a device that an address is here now: some remember where it was before."""
    own, ip = mac_bytes(link.mac), socket.inet_aton(address)
    message = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + ip + bytes(6) + ip
    with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((link.name, 0))
        wire.send(BROADCAST + own + struct.pack("!H", ARP) + message)
