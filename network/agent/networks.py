"""One network on this host: a namespace with a bridge, the taps of its guests, its rules and what it knows of others.

Applying compares with what the kernel has and changes the difference, so it may be done again at any time.
"""

import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from network.agent import flows, messages, netlink, rules, specs
from network.agent.namespaces import Namespaces
from network.agent.netlink import Link, Message, Netlink
from network.agent.nft import Rulesets
from network.agent.rules import BR_NETFILTER, OVERLAY, SERVICE_ADDRESS, SERVICE_ADDRESS6, SERVICE_MAC
from network.agent.specs import Address, Interface, NetworkSpec, Port

BRIDGE = "br0"
OVERLAY_PORT = 4789
TUN = "/dev/net/tun"
TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IP_FREEBIND = 15
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SERVICE: Interface = ipaddress.ip_interface(f"{SERVICE_ADDRESS}/32")
SERVICE6: Interface = ipaddress.ip_interface(f"{SERVICE_ADDRESS6}/128")


class Problem(Exception):
    """What was asked for cannot be done, in words."""


def namespace(spec: NetworkSpec) -> str:
    return f"network-{spec.id}"


@dataclass(frozen=True)
class Surroundings:
    """What a network finds on its host. `legs`: the routers' devices in it and their MACs; `vtep`: where this host's
    tunnels end, if it can have any."""

    tracking: str
    legs: dict[str, str]
    vtep: Address | None = None


@dataclass(frozen=True)
class Made:
    """A network as this process has made it: where nothing has changed since, nothing needs to be looked at."""

    spec: NetworkSpec
    around: Surroundings
    of_ports: rules.OfPorts

    def has_wires_of(self, spec: NetworkSpec, around: Surroundings) -> bool:
        """Whether devices, neighbours and tunnels are the same for another spec, but for those of its ports."""
        mine = self.spec
        same = (mine.mtu, mine.vni, mine.subnets, mine.peers, mine.host) == (
            spec.mtu, spec.vni, spec.subnets, spec.peers, spec.host,
        )  # fmt: skip
        return same and self.around == around


def apply(
    namespaces: Namespaces,
    rulesets: Rulesets,
    spec: NetworkSpec,
    around: Surroundings,
    made: Made | None = None,
) -> Made:
    """Make this host's part of a network as the spec says, which is `made` so far.

    Rules come first: what is opened later is never open without them.
    """
    if made and made.spec.ports is spec.ports and made.spec.host == spec.host:
        of_ports = made.of_ports
    else:
        of_ports = rules.of_ports(spec, (made.spec, made.of_ports) if made else None)
    namespaces.make(namespace(spec))
    with namespaces.within(namespace(spec)), Netlink() as kernel:
        _set_up(around.tracking)
        tables = rules.tables(spec, around.tracking, around.legs, of_ports)
        revoked = any([rulesets.apply(namespace(spec), table) for table in tables])
        if made is None or not made.has_wires_of(spec, around):
            _apply_wires(namespaces, spec, around, kernel)
        elif made.spec.ports is not spec.ports:
            _change_ports(made.spec, spec, kernel)
        if revoked and (made is None or spec.takes_from(made.spec)):
            flows.cut(spec, around.tracking)
    return Made(spec, around, of_ports)


def _apply_wires(namespaces: Namespaces, spec: NetworkSpec, around: Surroundings, kernel: Netlink) -> None:
    links = kernel.links()
    if BRIDGE not in links:
        kernel.send(messages.add_bridge(BRIDGE, SERVICE_MAC, spec.mtu), messages.change_link(1, up=True))
        links = kernel.links()
    bridge = links[BRIDGE]
    for name, value in (("disable_ipv6", 0), ("accept_dad", 0), ("accept_ra", 0)):
        sysctl(f"ipv6/conf/{BRIDGE}/{name}", value)  # the same addresses are on every host, on purpose
    kernel.send(messages.change_link(bridge.index, up=True, mtu=spec.mtu))
    _apply_overlay(namespaces, spec, around.vtep, kernel)
    links = kernel.links()
    wanted = {port.device for port in spec.local}
    for name, link in links.items():
        if name.startswith("p") and link.kind == "tun":
            if name not in wanted:
                kernel.send(messages.remove_link(link.index))
            elif link.mtu != spec.mtu:
                kernel.send(messages.change_link(link.index, mtu=spec.mtu))
    kernel.send(*_services(spec, kernel, bridge), *_neighbours(spec, kernel, bridge))


def _change_ports(before: NetworkSpec, spec: NetworkSpec, kernel: Netlink) -> None:
    """What other ports mean for neighbours, tunnels and taps, while all the rest is as it was.

    Devices are asked for by name: to list them takes as long as there are many.
    """
    bridge, overlay = socket.if_nametoindex(BRIDGE), _index(OVERLAY)
    gone, new = specs.changed(before.ports, spec.ports)
    devices = {port.device for port in new if port.host == spec.host}
    lost = [index for port in gone if port.device not in devices and (index := _index(port.device))]
    old_addresses, addresses = _addresses(gone), _addresses(new)
    old_remotes, remotes = _remotes(gone, spec.peers), _remotes(new, spec.peers)
    with contextlib.suppress(OSError):  # some of it may have gone already
        kernel.send(
            *(messages.neighbour(bridge, *each, add=False) for each in old_addresses - addresses),
            *(messages.remove_link(index) for index in lost),
        )
    kernel.send(*(messages.neighbour(bridge, *each) for each in addresses))
    if overlay:
        with contextlib.suppress(OSError):
            kernel.send(
                *(messages.overlay_entry(overlay, *each, add=False) for each in old_remotes - remotes),
                *(messages.bridge_entry(overlay, mac, add=False) for mac, _ in old_remotes - remotes),
            )
        kernel.send(
            *(messages.overlay_entry(overlay, *each) for each in remotes - old_remotes),
            *(messages.bridge_entry(overlay, mac) for mac, _ in remotes - old_remotes),
        )


def _index(device: str) -> int:
    """Of a device of the present namespace; 0: there is none of this name."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(device)
    return 0


def _addresses(ports: Iterable[Port]) -> set[tuple[Address, str]]:
    return {(address, port.mac) for port in ports for address in (*port.addresses, port.link_local)}


def _remotes(ports: Iterable[Port], peers: dict[str, Address]) -> set[tuple[str, Address]]:
    return {(port.mac, peers[port.host]) for port in ports if port.host in peers}


def _set_up(tracking: str) -> None:
    for family in ("iptables", "ip6tables", "arptables"):
        wanted = tracking == BR_NETFILTER and family != "arptables"
        sysctl(f"bridge/bridge-nf-call-{family}", int(wanted))


def sysctl(name: str, value: int) -> None:
    """Set a parameter of the present network namespace, where the kernel has it."""
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/sys/net", name).write_text(str(value))


def service_socket(address: str, port: int, kind: int) -> socket.socket:
    """A socket of the network's own service, in the present network namespace, on its bridge."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, BRIDGE.encode())
    made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)  # the network may get its first IPv6 subnet later
    made.bind((address, port))
    return made


def _services(spec: NetworkSpec, kernel: Netlink, bridge: Link) -> list[Message]:
    """The bridge's own addresses, and the way back from it to the guests."""
    own = {SERVICE} | ({SERVICE6} if any(subnet.network.version == 6 for subnet in spec.subnets.values()) else set())
    changes = [messages.address(bridge.index, each) for each in own - kernel.addresses(bridge.index)]
    present = {network for network, (device, _) in kernel.routes().items() if device == bridge.index}
    wanted = {subnet.network for subnet in spec.subnets.values()}
    for network in wanted - present:
        source = SERVICE.ip if network.version == 4 else SERVICE6.ip
        changes.append(messages.route(network, bridge.index, source=source))
    gone = {network for network in present - wanted if not network.is_link_local and not network.is_multicast}
    return [*changes, *(messages.route(network, bridge.index, add=False) for network in gone)]


def _neighbours(spec: NetworkSpec, kernel: Netlink, bridge: Link) -> list[Message]:
    """Who has which address is known of all ports, so nothing here has to ask."""
    wanted = dict(_addresses(spec.ports))
    present = kernel.neighbours(bridge.index)
    gone = [messages.neighbour(bridge.index, a, mac, add=False) for a, mac in present.items() if a not in wanted]
    return gone + [messages.neighbour(bridge.index, a, mac) for a, mac in wanted.items() if present.get(a) != mac]


def _apply_overlay(namespaces: Namespaces, spec: NetworkSpec, own: Address | None, kernel: Netlink) -> None:
    """Tunnels to the network's other hosts. Which MAC is where is told, never learned: nobody can take another's."""
    peers, links = spec.peers, kernel.links()
    if own is None or not peers:
        if OVERLAY in links:
            kernel.send(messages.remove_link(links[OVERLAY].index))
        return
    if OVERLAY not in links:
        inside = namespaces.open(namespace(spec))
        try:
            with namespaces.within(None), Netlink() as outside:
                device = messages.add_vxlan(
                    OVERLAY, spec.vni, local=own, port=OVERLAY_PORT, mtu=spec.mtu, in_namespace=inside
                )
                outside.send(device)
        finally:
            os.close(inside)
        links[OVERLAY] = kernel.links()[OVERLAY]
    index = links[OVERLAY].index
    sysctl(f"ipv6/conf/{OVERLAY}/disable_ipv6", 1)
    kernel.send(
        messages.change_link(index, up=True, master=links[BRIDGE].index, mtu=spec.mtu),
        messages.bridge_port(index, learning=False, unicast_flood=False, neigh_suppress=True),
    )
    remotes = _remotes(spec.ports, peers)
    wanted_macs = {mac for mac, _ in remotes}
    wanted_peers = remotes | {(netlink.NO_MAC, each) for each in peers.values()}
    macs, known = kernel.forwarding(index)
    kernel.send(
        *(messages.overlay_entry(index, mac, peer, add=False) for mac, peer in known - wanted_peers),
        *(messages.bridge_entry(index, mac, add=False) for mac in macs - wanted_macs),
        *(messages.overlay_entry(index, mac, peer) for mac, peer in wanted_peers - known),
        *(messages.bridge_entry(index, mac) for mac in wanted_macs - macs),
    )


def plug(namespaces: Namespaces, spec: NetworkSpec, port: Port, headers: bool) -> int:
    """The descriptor of a port's tap, for an emulator. The device stays when the emulator ends.

    `headers`: each frame follows a virtio-net header, by which guests leave checksums and segmenting to the host.
    Raises Problem when an emulator has the tap already.
    """
    with namespaces.within(namespace(spec)), Netlink() as kernel:
        try:
            tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise Problem(f"{TUN} cannot be opened: {error.strerror}") from error
        try:
            flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if headers else 0)
            fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", port.device.encode(), flags))
            fcntl.ioctl(tap, TUNSETPERSIST, 1)
            _join(kernel, port, spec.mtu)
        except OSError as error:
            os.close(tap)
            if error.errno == 16:  # EBUSY
                raise Problem(f"port {port.id} is plugged already") from error
            raise
        return tap


def _join(kernel: Netlink, port: Port, mtu: int) -> None:
    tap = socket.if_nametoindex(port.device)
    sysctl(f"ipv6/conf/{port.device}/disable_ipv6", 1)
    kernel.send(
        messages.change_link(tap, master=socket.if_nametoindex(BRIDGE), mtu=mtu),
        messages.bridge_port(tap, learning=False, unicast_flood=False),
        *(messages.bridge_entry(tap, mac) for mac in {port.mac, *(mac for _, mac in port.pairs)}),
        messages.change_link(tap, up=True),
    )


def unplug(namespaces: Namespaces, spec: NetworkSpec, device: str) -> None:
    """Remove a tap; an emulator that has it still reads errors. Nothing happens when there is none."""
    with namespaces.within(namespace(spec)), Netlink() as kernel:
        if index := _index(device):
            kernel.send(messages.remove_link(index))
