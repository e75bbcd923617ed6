"""The host's own network: the little that routers and overlays need of it, in one table of their own."""

from dataclasses import dataclass, field
from pathlib import Path

from network.agent import nft
from network.agent.netlink import Netlink
from network.agent.networks import OVERLAY_PORT
from network.agent.nft import Chain, Set, Table
from network.agent.routers import EVERYWHERE

FAMILY = "inet"
VNI = "@th,96,24"  # in a VXLAN packet, behind the UDP header


@dataclass(frozen=True)
class Needs:
    """`routers`: the host's ends of their ways out, and their addresses. `overlay`: (peer, VNI) of tunnels."""

    routers: dict[str, str] = field(default_factory=dict)
    overlay: frozenset[tuple[str, str]] = frozenset()


def apply(name: str, needs: Needs, device: str) -> None:
    """Make the table of this name what is needed, in the present namespace; `device` is the uplink, if there is one."""
    known = nft.read(Table(FAMILY, name))
    if not needs.routers and not needs.overlay:
        if known.there:
            nft.run(f"delete table {FAMILY} {name}")
        return
    forwarding = Path(f"/proc/sys/net/ipv4/conf/{device}/forwarding") if device else None
    # How the host was before there were routers is kept in the table itself, as an empty chain or one with a rule.
    forwards = bool(forwarding and forwarding.read_text().strip() == "1")
    is_open = "closed" not in known.digests and ("open" in known.digests or forwards)
    nft.apply(nft.difference(known, table(name, needs, is_open=is_open)))
    if forwarding and needs.routers:
        forwarding.write_text("1")


def remove(name: str) -> None:
    """Remove the table, if there is one."""
    if nft.read(Table(FAMILY, name)).there:
        nft.run(f"delete table {FAMILY} {name}")


def uplink(kernel: Netlink) -> str:
    """The device of the default route; "" when there is none."""
    index = kernel.routes().get(EVERYWHERE, (0, None))[0]
    return next((link.name for link in kernel.links().values() if link.index == index), "")


def table(name: str, needs: Needs, is_open: bool) -> Table:
    """What routers send leaves under the host's address, nothing else enters, and tunnels are for peers. Pure.

    `is_open`: the host forwarded for others before there were routers; otherwise it goes on not to.
    """
    others: dict[str, Chain] = {}
    if needs.routers:
        others = {"open": Chain(())} if is_open else {"closed": Chain(("iifname != @routers ct state new drop",))}
    return Table(
        FAMILY,
        name,
        sets={
            "routers": Set("type ifname", frozenset((device,) for device in needs.routers)),
            "sources": Set("type ifname . ipv4_addr", frozenset(needs.routers.items())),
            "addresses": Set("type ipv4_addr", frozenset((address,) for address in needs.routers.values())),
            "overlays": Set(f"typeof {VNI}", frozenset((vni,) for _, vni in needs.overlay)),
            "peers4": Set(f"typeof ip saddr . {VNI}", frozenset(each for each in needs.overlay if ":" not in each[0])),
            "peers6": Set(f"typeof ip6 saddr . {VNI}", frozenset(each for each in needs.overlay if ":" in each[0])),
        },
        chains=others
        | {
            "passing": Chain(
                (
                    "iifname @routers iifname . ip saddr != @sources drop",
                    "iifname @routers oifname @routers drop",
                    "oifname @routers ct state established,related accept",
                    "oifname @routers drop",
                    *(f"jump {chain}" for chain in others),
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
                ("ip saddr @addresses oifname != @routers masquerade",),
                "type nat hook postrouting priority 100 ; policy accept",
            ),
        },
    )
