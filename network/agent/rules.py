"""The nftables ruleset of one network on one host: a pure function of its spec.

Packets of a port pass `spoofing` (is the sender who it says it is?), then the egress of the port's security groups; on
the way to a port they pass its ingress. All ports share these chains: a port is only elements of sets and maps, so the
path of a packet does not grow with their number. A device that is in no set passes nothing at all.
"""

import hashlib
import ipaddress
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache

from network.agent import bandwidth, groups, reflexive, specs
from network.agent.counting import DROPPED, drop
from network.agent.nft import Chain, Elements, Set, Table
from network.agent.specs import NetworkSpec, Port

SERVICE_MAC = "02:00:00:fe:fe:02"  # of the bridge, on every host: DHCP, DNS and metadata answer from it
SERVICE_ADDRESS = "169.254.169.254"
SERVICE_ADDRESS6 = "fd00:ec2::254"
OVERLAY = "vx0"
BRIDGE_TRACKING, BR_NETFILTER, REFLEXIVE = "bridge", "br_netfilter", "reflexive"  # how a kernel tells what is an answer
MIDDLE_OF_TCP = "tcp flags & (fin | syn | rst | ack) != syn"  # not the first packet of a connection
ESTABLISHED = "meta mark & 0x1 == 0x1"
ROUTER_KINDS = "nd-router-solicit, nd-router-advert, nd-redirect"
NEIGHBOUR_KINDS = "nd-neighbor-solicit, nd-neighbor-advert"
GROUP_ADDRESS = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00"


@dataclass(frozen=True)
class OfPorts:
    """What of the table is made of ports alone: the larger part of it by far."""

    sets: dict[str, Set]
    chains: dict[str, Chain]
    limits: dict[str, str]


def tables(spec: NetworkSpec, tracking: str, legs: dict[str, str], ports: OfPorts) -> list[Table]:
    """The tables of a network. `tracking`: how the kernel tracks flows; `legs`: routers' devices and MACs."""
    found = [_bridge(spec, tracking, legs, ports)]
    if tracking == BR_NETFILTER:
        mark = ("ct state established,related meta mark set meta mark | 0x1",)
        hooks = {hook: Chain(mark, _hook(hook, -150)) for hook in ("prerouting", "output")}
        found.insert(0, Table("inet", "pileus_tracking", chains=hooks))
    return found


def _hook(name: str, priority: int, policy: str = "accept") -> str:
    return f"type filter hook {name} priority {priority} ; policy {policy}"


def _bridge(spec: NetworkSpec, tracking: str, legs: dict[str, str], ports: OfPorts) -> Table:
    sets, chains = groups.compiled(spec.groups.values())
    trusted = frozenset((device,) for device in (OVERLAY, *legs))
    sets |= ports.sets | {
        "trusted": Set("type ifname", trusted),
        "gateways": Set("type ether_addr", frozenset((mac,) for mac in (SERVICE_MAC, *legs.values()))),
        "dropped": DROPPED,
    }
    sets |= reflexive.sets() if tracking == REFLEXIVE else {}
    return Table("bridge", "pileus", sets, chains | ports.chains | _chains(tracking), ports.limits)


def of_ports(spec: NetworkSpec, before: tuple[NetworkSpec, OfPorts] | None = None) -> OfPorts:
    """Pure, like everything here; for many ports it takes a while. `before`: what was made of an earlier spec, of which
    ports that are the same objects need not be read again."""
    chains = {}
    for port in {port.groups: port for port in spec.local}.values():  # ports of the same groups share chains
        for direction in ("ingress", "egress"):
            jumps = tuple(f"jump {groups.chain_name(group, direction)}" for group in port.groups)
            refused = drop(f"{direction}_refused", "iifname" if direction == "egress" else "oifname")
            chains[profile(port, direction)] = Chain((*jumps, refused))
    limits, limited = bandwidth.limits(spec.local)
    if before and before[0].host == spec.host:
        sets = _sets_after(before[1].sets, *specs.changed(before[0].local, spec.local))
    else:
        sets = _sets(spec.local)
    gone, new = specs.changed(before[0].ports, spec.ports) if before else ((), spec.ports)
    had = before[1].sets["taken4"].elements if before else frozenset()
    sets |= {"taken4": Set("type ipv4_addr", had - _taken(gone) | _taken(new))}
    return OfPorts(sets | limited, chains, limits)


def _taken(ports: Iterable[Port]) -> Elements:
    return frozenset((str(a),) for port in ports for a in port.addresses if a.version == 4)


def _sets_after(sets: dict[str, Set], gone: list[Port], new: list[Port]) -> dict[str, Set]:
    """Each element names its port, so what goes with one port is never another's."""
    less, more = _sets(gone), _sets(new)
    return {
        name: replace(sets[name], elements=sets[name].elements - less[name].elements | more[name].elements)
        for name in less
    }


def profile(port: Port, direction: str) -> str:
    """The chain that all ports with the same security groups share."""
    return f"ports_{direction}_{hashlib.sha256('/'.join(port.groups).encode()).hexdigest()[:16]}"


def _sets(ports: Collection[Port]) -> dict[str, Set]:
    def of_ports(values: Callable[[Port], list[tuple[str, ...]]]) -> Elements:
        return frozenset((port.device, *value) for port in ports for value in values(port))

    def senders(port: Port, version: int) -> list[tuple[str, ...]]:
        own = [*port.addresses, port.link_local]
        single = [(n.network_address, mac) for n, mac in port.pairs if n.num_addresses == 1]
        return [(mac, str(a)) for a, mac in [*((a, port.mac) for a in own), *single] if a.version == version]

    def wide(port: Port, version: int) -> list[tuple[str, ...]]:
        return [(mac, str(n)) for n, mac in port.pairs if n.num_addresses > 1 and n.version == version]

    return {
        "macs": Set(
            "type ifname . ether_addr", of_ports(lambda p: [(m,) for m in {p.mac, *(mac for _, mac in p.pairs)}])
        ),
        "senders4": Set("type ifname . ether_addr . ipv4_addr", of_ports(lambda p: senders(p, 4))),
        "senders6": Set("type ifname . ether_addr . ipv6_addr", of_ports(lambda p: senders(p, 6))),
        # Pairs are not among these: what a guest reads at the service is for the owner of the address.
        "own4": Set(
            "type ifname . ether_addr . ipv4_addr",
            of_ports(lambda p: [(p.mac, str(a)) for a in p.addresses if a.version == 4]),
        ),
        "own6": Set(
            "type ifname . ether_addr . ipv6_addr",
            of_ports(lambda p: [(p.mac, str(a)) for a in p.addresses if a.version == 6]),
        ),
        "wide_senders4": Set("type ifname . ether_addr . ipv4_addr ; flags interval", of_ports(lambda p: wide(p, 4))),
        "wide_senders6": Set("type ifname . ether_addr . ipv6_addr ; flags interval", of_ports(lambda p: wide(p, 6))),
        # nftables before 1.0.9 has no word for the target of a neighbour advertisement: 128 bits after 64.
        "targets": Set(
            "typeof iifname . @th,64,128",
            of_ports(lambda p: [(_number(a),) for _, a in senders(p, 6)]),
        ),
        "egress": Set(
            "type ifname : verdict", of_ports(lambda p: [(f"goto {profile(p, 'egress')}",)]), is_map=True
        ),
        "ingress": Set(
            "type ifname : verdict", of_ports(lambda p: [(f"goto {profile(p, 'ingress')}",)]), is_map=True
        ),
    }  # fmt: skip


def _number(address: str) -> str:
    return f"0x{ipaddress.IPv6Address(address).packed.hex()}"


@cache
def _chains(tracking: str) -> dict[str, Chain]:
    chains = {
        "spoofing": Chain(_spoofing()),
        "probing": Chain(("arp operation request accept",)),
        # Before the kernel tracks anything (-200, or 0 by br_netfilter): what is spoofed makes no flow.
        "arriving": Chain(
            (
                f'iifname "{OVERLAY}" ether saddr @gateways {GROUP_ADDRESS} drop',  # gateways are on every host
                f"iifname @trusted ip daddr {SERVICE_ADDRESS} drop",  # it is on each guest's own host
                f"iifname @trusted ip6 daddr {SERVICE_ADDRESS6} drop",
                "iifname @trusted accept",
                "jump spoofing",
            ),
            _hook("prerouting", -250),
        ),
        # The metadata address, by whatever next hop, is the bridge's. For frames to it the kernel's own mark of "for
        # another host" has to be taken back.
        "services": Chain(
            tuple(
                f"iifname != @trusted {service} ether daddr set {SERVICE_MAC} meta pkttype set host"
                for service in (f"ip daddr {SERVICE_ADDRESS}", f"ip6 daddr {SERVICE_ADDRESS6}")
            ),
            _hook("prerouting", -240),
        ),
        "sending": Chain(_sending(), _hook("prerouting", 100)),
        "receiving": Chain(_receiving(), _hook("postrouting", 0)),
        "to_overlay": Chain(
            (
                f"ether saddr @gateways {GROUP_ADDRESS} drop",
                f"ether type arp arp daddr ip {SERVICE_ADDRESS} drop",
                "udp sport 68 udp dport 67 drop",
                "udp sport 546 udp dport 547 drop",
                f"icmpv6 type {{ {ROUTER_KINDS} }} drop",
                "accept",
            )
        ),
    }
    if tracking == REFLEXIVE:
        chains |= reflexive.chains(_hook)
    elif tracking == BRIDGE_TRACKING:
        mark = ("ct state established,related meta mark set meta mark | 0x1",)
        chains |= {
            "tracked_arriving": Chain(mark, _hook("prerouting", -150)),
            "tracked_own": Chain(mark, _hook("output", -150)),
        }
    return chains


def _spoofing() -> tuple[str, ...]:
    """Of a port: what is not surely its own ends here."""
    return (
        f"iifname . ether saddr != @macs {drop('spoofed_mac')}",
        "ether type arp iifname . arp saddr ether . arp saddr ip @senders4 accept",
        "ether type arp iifname . arp saddr ether . arp saddr ip @wide_senders4 accept",
        # Who looks whether an address is free looks for its own, or for nobody's: asking for another's would keep its
        # owner from taking it.
        "ether type arp arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @senders4 jump probing",
        f"ether type arp arp saddr ip 0.0.0.0 arp daddr ip @taken4 {drop('spoofed_arp')}",
        "ether type arp arp saddr ip 0.0.0.0 iifname . arp saddr ether @macs jump probing",
        f"ether type arp {drop('spoofed_arp')}",
        "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept",
        f"ether type ip udp sport 67 {drop('rogue_dhcp')}",
        f"ip daddr {SERVICE_ADDRESS} meta l4proto tcp iifname . ether saddr . ip saddr != @own4"
        f" {drop('spoofed_address')}",
        "ether type ip iifname . ether saddr . ip saddr @senders4 accept",
        "ether type ip iifname . ether saddr . ip saddr @wide_senders4 accept",
        f"ether type ip {drop('spoofed_address')}",
        f"ether type != ip6 {drop('not_ip')}",
        f"icmpv6 type {{ nd-router-advert, nd-redirect }} {drop('rogue_router')}",
        f"udp sport 547 {drop('rogue_dhcp')}",
        "ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets accept",
        f"ip6 saddr :: icmpv6 type nd-neighbor-solicit {drop('spoofed_neighbour')}",
        "ip6 saddr :: icmpv6 type mld2-listener-report accept",
        f"icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets {drop('spoofed_neighbour')}",
        f"ip6 daddr {SERVICE_ADDRESS6} meta l4proto tcp iifname . ether saddr . ip6 saddr != @own6"
        f" {drop('spoofed_address')}",
        "iifname . ether saddr . ip6 saddr @senders6 accept",
        "iifname . ether saddr . ip6 saddr @wide_senders6 accept",
        drop("spoofed_address"),
    )


def _sending() -> tuple[str, ...]:
    """After tracking: what every guest may say (ARP, DHCP, neighbours, to the network's services), then its groups."""
    return (
        "iifname @trusted accept",
        bandwidth.rule("sent"),
        f"{ESTABLISHED} accept",
        f"{MIDDLE_OF_TCP} {drop('not_tracked')}",
        "ether type arp accept",
        "udp sport 68 udp dport 67 accept",
        "udp sport 546 udp dport 547 accept",
        f"icmpv6 type {{ {NEIGHBOUR_KINDS}, nd-router-solicit, mld2-listener-report }} accept",
        f"ip daddr {SERVICE_ADDRESS} accept",
        f"ip6 daddr {SERVICE_ADDRESS6} accept",
        "iifname vmap @egress",
        "drop",
    )


def _receiving() -> tuple[str, ...]:
    return (
        f'oifname "{OVERLAY}" jump to_overlay',
        "oifname @trusted accept",
        bandwidth.rule("received"),
        f"{ESTABLISHED} accept",
        "ether type arp accept",
        f"ether saddr {SERVICE_MAC} udp sport 67 udp dport 68 accept",
        f"ether saddr {SERVICE_MAC} udp sport 547 udp dport 546 accept",
        f"icmpv6 type {{ {NEIGHBOUR_KINDS} }} accept",
        "ether saddr @gateways icmpv6 type nd-router-advert accept",
        f"{MIDDLE_OF_TCP} {drop('not_tracked', 'oifname')}",
        "oifname vmap @ingress",
        "drop",
    )
