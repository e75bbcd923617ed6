"""The host's own network: the little that routers and overlays need of it, in one table of their own."""

from dataclasses import dataclass, field
from pathlib import Path

from network.agent import doors, nft
from network.agent.netlink import Netlink
from network.agent.networks import OVERLAY_PORT
from network.agent.nft import Chain, Set, Table
from network.agent.pools import ROUTED, Pools
from network.agent.routers import EVERYWHERE
from network.agent.specs import Address

FAMILY = "inet"
VNI = "@th,96,24"  # in a VXLAN packet, behind the UDP header


@dataclass(frozen=True)
class Side:
    """This installation's side of the host's network: the name of its table, and the addresses that lead here."""

    table: str
    pools: Pools = field(default_factory=Pools)


@dataclass(frozen=True)
class Needs:
    """`routers`: the host's ends of their ways out, and their addresses. `overlay`: (peer, VNI) of tunnels.
    `floating`: (way out, address) that lead in by that router; `answered`: those on a segment, with its device."""

    routers: dict[str, str] = field(default_factory=dict)
    overlay: frozenset[tuple[str, str]] = frozenset()
    floating: frozenset[tuple[str, str]] = frozenset()
    answered: frozenset[tuple[str, str]] = frozenset()


def apply(side: Side, needs: Needs, kernel: Netlink) -> None:
    """Make the table, and the routes to routers, what is needed, in the present namespace."""
    name, pools = side.table, side.pools
    known = nft.read(Table(FAMILY, name))
    links = kernel.links()
    before = frozenset(known.sets.get("answered", ()))
    if not needs.routers and not needs.overlay:
        doors.answer(kernel, links, before, frozenset())
        if known.there:
            nft.run(f"delete table {FAMILY} {name}")
        return
    device = uplink(kernel)
    entrances = {each: forwarding(each) for each in {device, *pools.devices} if each in links}
    # How each of them was before there were routers is kept in the table itself.
    found: dict[bool, set[str]] = {
        is_open: {each for (each,) in known.sets.get(_kept(is_open), ())} for is_open in (True, False)
    }
    for each, file in entrances.items():
        if each not in found[True] | found[False]:
            found[file.read_text().strip() == "1"].add(each)
    addresses = kernel.addresses(links[device].index) if device else ()
    own = next((each.ip for each in addresses if each.version == 4), None)
    host = Host(frozenset(found[True]), frozenset(found[False]), pools, own)
    nft.apply(nft.difference(known, table(name, needs, host)))
    if needs.routers:
        for file in entrances.values():
            file.write_text("1")
    doors.lead(kernel, links, needs.routers, needs.floating)
    doors.answer(kernel, links, before, needs.answered)


def forwarding(device: str) -> Path:
    """Whether the host forwards what comes by a device."""
    return Path(f"/proc/sys/net/ipv4/conf/{device}/forwarding")


def _kept(is_open: bool) -> str:
    return "open" if is_open else "closed"


def remove(name: str) -> None:
    """Remove the table, if there is one."""
    known = nft.read(Table(FAMILY, name))
    if known.there:
        with Netlink() as kernel:
            doors.answer(kernel, kernel.links(), frozenset(known.sets.get("answered", ())), frozenset())
        nft.run(f"delete table {FAMILY} {name}")


def uplink(kernel: Netlink) -> str:
    """The device of the default route; "" when there is none."""
    index = kernel.routes().get(EVERYWHERE, (0, None))[0]
    return next((link.name for link in kernel.links().values() if link.index == index), "")


@dataclass(frozen=True)
class Host:
    """What of the host the rules depend on. `open`, `closed`: devices by which it forwarded, or not, before there were
    routers; by the latter it goes on not to, except for routers. `own`: its address on the uplink."""

    open: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    pools: Pools = field(default_factory=Pools)
    own: Address | None = None


def table(name: str, needs: Needs, host: Host) -> Table:
    """What routers send leaves under the host's address or their own, only what leads in enters, and tunnels are for
    peers. Pure."""
    routed = frozenset((str(network),) for network, device in host.pools.ranges.items() if device == ROUTED)
    floating = frozenset((address,) for _, address in needs.floating)
    return Table(
        FAMILY,
        name,
        sets={
            "routers": Set("type ifname", frozenset((device,) for device in needs.routers)),
            "sources": Set("type ifname . ipv4_addr", frozenset(needs.routers.items()) | needs.floating),
            "addresses": Set("type ipv4_addr", frozenset((address,) for address in needs.routers.values())),
            "floating": Set("type ipv4_addr", floating),
            "answered": Set("type ifname . ipv4_addr", needs.answered),
            "routed": Set("type ipv4_addr ; flags interval", routed),
            "open": Set("type ifname", frozenset((device,) for device in host.open)),
            "closed": Set("type ifname", frozenset((device,) for device in host.closed)),
            "overlays": Set(f"typeof {VNI}", frozenset((vni,) for _, vni in needs.overlay)),
            "peers4": Set(f"typeof ip saddr . {VNI}", frozenset(each for each in needs.overlay if ":" not in each[0])),
            "peers6": Set(f"typeof ip6 saddr . {VNI}", frozenset(each for each in needs.overlay if ":" in each[0])),
        },
        chains={
            "passing": Chain(
                (
                    "iifname @routers iifname . ip saddr != @sources drop",
                    "oifname @routers ip daddr @floating accept",
                    "oifname @routers ct state established,related accept",
                    "oifname @routers drop",
                    # What leads nowhere is not sent back to who routed it here.
                    "iifname != @routers ip daddr @routed drop",
                    "iifname @closed ct state new drop",
                ),
                "type filter hook forward priority 0 ; policy accept",
            ),
            # To the host itself routers' packets may not go: not to its services, not to its private addresses.
            "arriving": Chain(
                (
                    "iifname @routers ct state established,related accept",
                    "iifname @routers drop",
                    f"udp dport {OVERLAY_PORT} {VNI} @overlays ip saddr . {VNI} != @peers4 drop",
                    f"udp dport {OVERLAY_PORT} {VNI} @overlays ip6 saddr . {VNI} != @peers6 drop",
                ),
                "type filter hook input priority 0 ; policy accept",
            ),
            "leaving": Chain(
                (
                    "ip saddr @addresses oifname != @routers masquerade",
                    *([f"ip saddr @addresses ip daddr @floating snat ip to {host.own}"] if host.own else []),
                ),
                "type nat hook postrouting priority 100 ; policy accept",
            ),
        },
    )
