"""The routers' way out by IPv6, on a host that has one: guests leave under the host's own address (NAT66).

It goes over the same wire to the host as IPv4. Its ends know each other's MACs and ask nobody. Of the host's own
network it needs a table, a route for each router, and forwarding, which IPv6 has only for all devices at once: the
table goes on to refuse it to others where the host did not forward before.
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from network.agent import messages, nft
from network.agent.namespaces import Namespaces
from network.agent.netlink import Link, Netlink
from network.agent.networks import sysctl
from network.agent.nft import Chain, Rulesets, Set, Table
from network.agent.router_specs import RouterSpec
from network.agent.routers import WAY_OUT, router_namespace, way_out_device
from network.agent.specs import Address, Interface, Network

EVERYWHERE: Network = ipaddress.ip_network("::/0")
TRANSIT = ipaddress.IPv6Address("fd00:ec2:0:1::")  # /64, of which each router has an address on its wire
HOST_END: Interface = ipaddress.ip_interface("fe80::1/128")
SETTINGS = Path("/proc/sys/net/ipv6/conf")
FAMILY = "ip6"
CLOSED, OPEN = "closed", "open"  # whether the host forwarded before: kept in the table, as a chain of that name


def own(spec: RouterSpec) -> Interface:
    """A router's own address on its wire to the host."""
    number = int.from_bytes(hashlib.sha256(spec.id.encode()).digest()[:8], "big") | 2
    return ipaddress.ip_interface((TRANSIT + number, 128))


def has_one(kernel: Netlink) -> bool:
    """Whether the host can reach the world by IPv6."""
    return EVERYWHERE in kernel.routes()


def leaves(spec: RouterSpec) -> bool:
    """Whether a router has anybody to let out by IPv6."""
    return spec.external and spec.snat and any(each.version == 6 for leg in spec.legs for each in leg.addresses)


def apply(namespaces: Namespaces, rulesets: Rulesets, name: str, routers: Iterable[RouterSpec]) -> None:
    """Lead these routers out as far as the host can. `name`: of this installation's table in the host's own rules."""
    specs = [spec for spec in routers if leaves(spec)]
    with namespaces.within(None), Netlink() as host:
        if not specs or not has_one(host):
            remove(name)
            return
        links = host.links()
        wires = {spec: links[way_out_device(spec)] for spec in specs if way_out_device(spec) in links}
        _open(name, {wire.name: own(spec).ip for spec, wire in wires.items()})
        present = host.routes()
    for spec, wire in wires.items():
        if own(spec).network not in present or not _is_connected(namespaces, spec):
            _connect(namespaces, rulesets, spec, wire)


def remove(name: str) -> None:
    """Take the host's own network back to how it was before."""
    known = nft.read(Table(FAMILY, name))
    if known.there:
        if CLOSED in known.digests:
            _forwarding().write_text("0")
        nft.run(f"delete table {FAMILY} {name}")


def _forwarding() -> Path:
    return SETTINGS / "all" / "forwarding"


def _open(name: str, routers: dict[str, Address]) -> None:
    known = nft.read(Table(FAMILY, name))
    forwarded = OPEN in known.digests if known.there else _forwarding().read_text().strip() == "1"
    nft.apply(nft.difference(known, table(name, routers, is_open=forwarded)))
    if _forwarding().read_text().strip() != "1":
        # A host that forwards would forget the router that it was told of, if it did not insist (2).
        for accepts in SETTINGS.glob("*/accept_ra"):
            if accepts.read_text().strip() == "1":
                accepts.write_text("2")
        _forwarding().write_text("1")


def table(name: str, routers: dict[str, Address], is_open: bool) -> Table:
    """Routers send as themselves, not to each other, and leave under the host's address. What may come back in is
    judged with IPv4's (`edge`). Pure."""
    kept = {OPEN: Chain(())} if is_open else {CLOSED: Chain(("iifname != @routers ct state new drop",))}
    return Table(
        FAMILY,
        name,
        sets={
            "routers": Set("type ifname", frozenset((device,) for device in routers)),
            "sources": Set("type ifname . ipv6_addr", frozenset((device, str(ip)) for device, ip in routers.items())),
            "addresses": Set("type ipv6_addr", frozenset((str(ip),) for ip in routers.values())),
        },
        chains=kept
        | {
            "passing": Chain(
                (
                    "iifname @routers iifname . ip6 saddr != @sources drop",
                    "iifname @routers oifname @routers drop",
                    *(f"jump {chain}" for chain in kept),
                ),
                "type filter hook forward priority 0 ; policy accept",
            ),
            "leaving": Chain(
                ("ip6 saddr @addresses oifname != @routers masquerade",),
                "type nat hook postrouting priority 100 ; policy accept",
            ),
        },
    )


def _is_connected(namespaces: Namespaces, spec: RouterSpec) -> bool:
    with namespaces.within(router_namespace(spec)), Netlink() as kernel:
        return EVERYWHERE in kernel.routes()


def _connect(namespaces: Namespaces, rulesets: Rulesets, spec: RouterSpec, wire: Link) -> None:
    """`wire` is the host's end."""
    address = own(spec)
    with namespaces.within(router_namespace(spec)), Netlink() as kernel:
        _enable(WAY_OUT)
        inner = kernel.links()[WAY_OUT]
        source = Chain((f'oifname "{WAY_OUT}" snat to {address.ip}',), "type nat hook postrouting priority 100")
        rulesets.apply(router_namespace(spec), Table(FAMILY, "pileus_nat6", chains={"outgoing": source}))
        kernel.send(
            messages.address(inner.index, address),
            messages.neighbour(inner.index, HOST_END.ip, wire.mac),
            messages.route(EVERYWHERE, inner.index, gateway=HOST_END.ip),
        )
    with namespaces.within(None), Netlink() as host:
        _enable(wire.name)
        host.send(
            messages.address(wire.index, HOST_END),
            messages.neighbour(wire.index, address.ip, inner.mac),
            messages.route(address.network, wire.index),
        )


def _enable(device: str) -> None:
    for name, value in (("disable_ipv6", 0), ("accept_ra", 0), ("accept_dad", 0)):
        sysctl(f"ipv6/conf/{device}/{name}", value)
