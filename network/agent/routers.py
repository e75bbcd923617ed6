"""One router on this host: a namespace with a leg in each of its networks that are here, and a way out.

The same router is on every host with the same MACs and addresses, so packets take the first hop on their guest's host.
"""

import hashlib
import ipaddress
import os
from collections.abc import Container

from network.agent import flows, messages
from network.agent.namespaces import Namespaces
from network.agent.netlink import Netlink
from network.agent.networks import BRIDGE, namespace, sysctl
from network.agent.nft import Chain, Rulesets, Set, Table
from network.agent.pools import WaysIn
from network.agent.router_specs import Leg, RouterSpec
from network.agent.rules import MIDDLE_OF_TCP
from network.agent.specs import Address, Interface, Network, NetworkSpec, device_name

WAY_OUT = "out"
WAY_OUT_MTU = 65520  # as pasta has it; the host tells of smaller ones beyond
HOST_END: Address = ipaddress.ip_address("169.254.1.1")  # of every router's way out; nothing else is on that wire
TRANSIT = ipaddress.ip_network("169.254.0.0/16")
EVERYWHERE: Network = ipaddress.ip_network("0.0.0.0/0")


def router_namespace(spec: RouterSpec) -> str:
    return f"router-{spec.id}"


def leg_mac(router: str, network: str) -> str:
    """The router's MAC in a network, on every host."""
    return "02:" + hashlib.sha256(f"{router}/{network}".encode()).digest()[:5].hex(":")


def leg_device(router: str, network: str) -> str:
    """The bridge's end of a leg; the router's end is named by the network alone."""
    return device_name("r", router, network)


def way_out_device(spec: RouterSpec) -> str:
    """The host's end of a router's way out."""
    return device_name("o", spec.id)


def apply(
    namespaces: Namespaces, rulesets: Rulesets, spec: RouterSpec, ways: WaysIn, networks: dict[str, NetworkSpec]
) -> None:
    """Make this host's part of a router. `networks`: those of its legs that are on this host, with rules in place."""
    namespaces.make(router_namespace(spec))
    with namespaces.within(router_namespace(spec)), Netlink() as kernel:
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            sysctl(name, 1)
        sysctl("ipv4/conf/all/send_redirects", 0)
        kernel.send(messages.change_link(1, up=True))
        legs = {device_name("n", leg.network): leg for leg in spec.legs if leg.network in networks}
        for name, link in kernel.links().items():
            if name.startswith("n") and link.kind == "veth" and name not in legs:
                kernel.send(messages.remove_link(link.index))
        for leg in legs.values():
            _connect(namespaces, spec, kernel, leg, networks[leg.network])
        own = _apply_way_out(namespaces, spec, kernel)
        if any([rulesets.apply(router_namespace(spec), table) for table in tables(spec, ways, own)]):
            others = {each.ip for leg in spec.legs for each in leg.addresses}
            flows.cut_translated(ways, others | ({own.ip} if own else set()))
        _apply_routes(spec, kernel)


def remove(namespaces: Namespaces, spec: RouterSpec) -> None:
    """Remove the namespace. Its devices go first: with the namespace their other ends would go, but not at once."""
    with namespaces.within(router_namespace(spec)), Netlink() as kernel:
        for link in kernel.links().values():
            if link.kind == "veth":
                kernel.send(messages.remove_link(link.index))
    namespaces.remove(router_namespace(spec))


def _connect(namespaces: Namespaces, spec: RouterSpec, kernel: Netlink, leg: Leg, network: NetworkSpec) -> None:
    name = device_name("n", leg.network)
    mac, peer = leg_mac(spec.router, leg.network), leg_device(spec.router, leg.network)
    if name not in kernel.links():
        inside = namespaces.open(namespace(network))
        try:
            kernel.send(messages.add_veth(name, mac, network.mtu, peer=peer, peer_namespace=inside))
        finally:
            os.close(inside)
    index = kernel.links()[name].index
    sysctl(f"ipv6/conf/{name}/accept_dad", 0)  # the same address is on every host, on purpose
    sysctl(f"ipv6/conf/{name}/accept_ra", 0)
    with namespaces.within(namespace(network)), Netlink() as inner:
        sysctl(f"ipv6/conf/{peer}/disable_ipv6", 1)
        links = inner.links()
        inner.send(
            messages.change_link(links[peer].index, master=links[BRIDGE].index, mtu=network.mtu),
            messages.bridge_port(links[peer].index, learning=False),
            messages.bridge_entry(links[peer].index, mac),
            messages.change_link(links[peer].index, up=True),
        )
    kernel.send(messages.change_link(index, up=True, mtu=network.mtu))
    present, wanted = kernel.addresses(index), set(leg.addresses)
    kernel.send(
        *(messages.address(index, each, add=False) for each in present - wanted),
        *(messages.address(index, each) for each in wanted - present),
    )


def _apply_way_out(namespaces: Namespaces, spec: RouterSpec, kernel: Netlink) -> Interface | None:
    """The wire to the host and the router's own address on it; None for a router without a way out."""
    links = kernel.links()
    if not spec.external:
        if WAY_OUT in links:
            kernel.send(messages.remove_link(links[WAY_OUT].index))
        return None
    if WAY_OUT not in links:
        outside = namespaces.open(None)
        try:
            kernel.send(messages.add_veth(WAY_OUT, "", WAY_OUT_MTU, peer=way_out_device(spec), peer_namespace=outside))
        finally:
            os.close(outside)
        sysctl(f"ipv6/conf/{WAY_OUT}/disable_ipv6", 1)  # until there is a way out by IPv6
        with namespaces.within(None):
            sysctl(f"ipv6/conf/{way_out_device(spec)}/disable_ipv6", 1)
    index = kernel.links()[WAY_OUT].index
    own: Interface | None = next((each for each in kernel.addresses(index) if each.version == 4), None)
    with namespaces.within(None), Netlink() as host:
        end = host.links()[way_out_device(spec)].index
        sysctl(f"ipv4/conf/{way_out_device(spec)}/forwarding", 1)
        routes = host.routes()
        own = own or _free_address(spec, routes)
        host.send(
            messages.change_link(end, up=True),
            messages.address(end, ipaddress.ip_interface((HOST_END, 32))),
            messages.route(own.network, end),
        )
    kernel.send(
        messages.change_link(index, up=True),
        messages.address(index, own),
        messages.route(EVERYWHERE, index, gateway=HOST_END),
    )
    return own


def own_address(namespaces: Namespaces, spec: RouterSpec) -> Address | None:
    """The router's address on its way out; None when it has none."""
    with namespaces.within(router_namespace(spec)), Netlink() as kernel:
        if link := kernel.links().get(WAY_OUT):
            return next((each.ip for each in kernel.addresses(link.index) if each.version == 4), None)
    return None


def _free_address(spec: RouterSpec, taken: Container[Network]) -> Interface:
    """An unused address between router and host."""
    start = int(hashlib.sha256(spec.id.encode()).hexdigest(), 16)
    for step in range(TRANSIT.num_addresses):
        value = TRANSIT[(start + step) % TRANSIT.num_addresses]
        if 2 <= value.packed[2] <= 168 and ipaddress.ip_network(value) not in taken:
            return ipaddress.ip_interface((value, 32))
    raise OSError("no address is free for another router")


def _apply_routes(spec: RouterSpec, kernel: Netlink) -> None:
    wanted = dict(spec.routes)
    present = {to: via for to, (_, via) in kernel.routes().items() if via and to.prefixlen}
    kernel.send(*(messages.route(to, gateway=via, add=False) for to, via in present.items() if wanted.get(to) != via))
    kernel.send(*(messages.route(to, gateway=via) for to, via in wanted.items() if present.get(to) != via))


def tables(spec: RouterSpec, ways: WaysIn, own: Interface | None) -> list[Table]:
    """Who may pass the router, and what its packets look like outside. A pure function.

    A guest with an address outside leaves as that. Guests reach each other by such addresses, too: for the answers to
    come back through the router, it puts the sender's address outside, or one of its own, in the sender's place.
    """
    insiders = f'ct status dnat oifname != "{WAY_OUT}" ip saddr @inside'
    leaving = [f'oifname "{WAY_OUT}" snat to ip saddr map @leaving']
    leaving += [f'oifname "{WAY_OUT}" snat to {own.ip}'] if own and spec.snat else []
    leaving += [f"{insiders} snat to ip saddr map @leaving", f"{insiders} masquerade"]
    entering = ("dnat ip to ip daddr . meta l4proto . th dport map @ports", "dnat to ip daddr map @entering")
    ports = frozenset(
        (str(address), protocol, str(port), f"{to} . {to_port}")
        for (address, protocol, port), (to, to_port) in ways.ports.items()
    )
    inside = frozenset((str(each.network),) for leg in spec.legs for each in leg.addresses if each.version == 4)
    pairs = [(str(outside), str(to)) for outside, to in ways.addresses.items()]
    return [
        Table(
            "ip",
            "pileus_nat",
            sets={
                "inside": Set("type ipv4_addr ; flags interval", inside),
                "entering": Set("type ipv4_addr : ipv4_addr", frozenset(pairs), is_map=True),
                "leaving": Set("type ipv4_addr : ipv4_addr", frozenset((to, o) for o, to in pairs), is_map=True),
                "ports": Set(
                    "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service", ports, is_map=True
                ),
            },
            chains={
                "incoming": Chain(entering, "type nat hook prerouting priority -100 ; policy accept"),
                "outgoing": Chain(tuple(leaving), "type nat hook postrouting priority 100 ; policy accept"),
            },
        ),
        Table(
            "inet",
            "pileus_router",
            chains={
                "passing": Chain(
                    (
                        "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
                        # A connection that its floating IP has left is told so: its new guest knows nothing of it.
                        f'iifname "{WAY_OUT}" ct state new ct status dnat {MIDDLE_OF_TCP} reject with tcp reset',
                        f'iifname "{WAY_OUT}" ct state new ct status dnat accept',
                        f'iifname "{WAY_OUT}" ct state new drop',
                    ),
                    "type filter hook forward priority 0 ; policy accept",
                ),
                # Guests ping their gateway; the router itself offers nothing.
                "arriving": Chain(
                    (
                        "ct state established,related accept",
                        "meta l4proto { 1, 58 } accept",
                        'iifname != "lo" drop',
                    ),
                    "type filter hook input priority 0 ; policy accept",
                ),
            },
        ),
    ]  # fmt: skip
