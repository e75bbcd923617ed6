"""The way of a first packet through what is wanted of networks, as the rows say it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from network import hosting, status
from network.default_routes import with_default_routes
from network.doctor import ways_in
from network.doctor.groups import judge
from network.doctor.hops import BLOCKED, Hop, Packet, Wish, blocked, broken, ok, unknown
from network.doctor.paths import Lost, Paths, Taken, way_there
from network.models import Address, NetworkOnHost, Port, Router, RouterOnHost
from network.models.hosted import OnHost
from network.models.security import Direction
from network.status import READY


@dataclass(frozen=True)
class Walk:
    """A way: its hops, and for looking closer where it begins and ends. `router`: the last one on it; `outside`: the
    floating IP that leads in."""

    hops: tuple[Hop, ...]
    target: Address | None = None
    source: Address | None = None
    router: Router | None = None
    outside: str = ""

    @property
    def blocks(self) -> int:
        return sum(hop.verdict == BLOCKED for hop in self.hops)


def addresses_of(ports: Sequence[Port], family: int | None = None) -> list[Any]:
    """The addresses of some ports, IPv4 first; with all that a walk reads of them."""
    own = Address.objects.filter(port__in=ports).select_related("subnet__network", "port__project", "port__host")
    found = with_default_routes(own)
    ordered = sorted(found.order_by("port__holder_slot", "pk"), key=lambda one: one.subnet.family)
    return [one for one in ordered if family in (None, one.subnet.family)]


def from_outside(own: Sequence[Port], wish: Wish, remote: str | None) -> Walk:
    """From outside of the cloud to a machine with these ports: from one address, or from anywhere.

    Of several ways in, one that is open, else the one with the fewest obstacles.
    """
    family = ip_address(remote).version if remote else 4
    targets = addresses_of(own, family)
    if not targets:
        words = f"It has no IPv{family} address."
        return Walk((blocked("nic", "its NICs", words),))
    paths = Paths(targets[0].port.project_id)
    ways = ways_in.ways_to(targets, wish)
    walks = [_by_way(paths, way, wish, remote) for way in ways]
    return min(walks or [_without_way(paths, one, wish, remote) for one in targets], key=lambda walk: walk.blocks)


def _by_way(paths: Paths, way: ways_in.WayIn, wish: Wish, remote: str | None) -> Walk:
    target = way.target
    router, hop = _router_out(paths, target)
    hops = [_nic(target), hop, way.hop]
    leg = next((one for one in paths.joined(target.subnet) if router and one.port.holder_id == router.pk), None)
    if way.keeps_sender:
        back = paths.trace(target, None)
        hops += [back.hop if isinstance(back, Lost) else _answers(target, back)]
    seen = remote if way.keeps_sender or leg is None else leg.address
    hops.append(judge(target.port, Direction.INGRESS, Packet(target.subnet.family, wish, seen)))
    hops += _on_host(target.port, [router] if router else [], way.row.pk)
    return Walk(tuple(hops), target, router=router, outside=way.floating)


def _without_way(paths: Paths, target: Address, wish: Wish, remote: str | None) -> Walk:
    router, hop = _router_out(paths, target)
    ingress = judge(target.port, Direction.INGRESS, Packet(target.subnet.family, wish, remote))
    on_host = _on_host(target.port, [router] if router else [])
    hops = (_nic(target), hop, ways_in.none_leads(target, wish, router), ingress, *on_host)
    return Walk(hops, target, router=router)


def _nic(target: Address) -> Hop:
    return ok("nic", f"the port {target.port}", f"It has the address {target.address} on {target.subnet.network}.")


def _answers(target: Address, back: Taken) -> Hop:
    return ok(
        "gateway",
        f"what DHCP and router advertisements tell guests on {target.subnet}",
        f"Answers leave by {back.routers[0] if back.routers else 'its subnet'}.",
    )


def _router_out(paths: Paths, target: Address) -> tuple[Router | None, Hop]:
    """The router with a way out that a subnet is joined to."""
    subnet, looked_at = target.subnet, f"the routers that {target.subnet} is joined to"
    joined = [paths.router(leg) for leg in paths.joined(subnet)]
    router = min((one for one in joined if one.external), key=lambda one: one.created_at, default=None)
    if router is not None:
        return router, ok("router", looked_at, f"{subnet} is joined to the router {router}, which has a way out.")
    if joined:
        words = f"{subnet} is joined to the router {joined[0]}, which has no way out of the cloud."
        return None, blocked("router", looked_at, words, paths.lead_out(joined[0]))
    words = f"The subnet {subnet} is joined to no router: it has no way to the outside."
    return None, blocked("router", looked_at, words, paths.join_any(subnet, external=True))


def inside(sources: Sequence[Address], targets: Sequence[Address], wish: Wish) -> Walk:
    """From one machine of a project to another one. Of several pairs of addresses, one that is open, or the best."""
    pairs = [(one, other) for one, other in product(sources, targets) if one.subnet.family == other.subnet.family]
    if not pairs:
        words = "They have no addresses of the same family."
        return Walk((blocked("nic", "the NICs of both ends", words),))
    # Neighbours speak to each other directly, whatever other ways there are.
    near = [pair for pair in pairs if pair[0].subnet_id == pair[1].subnet_id]
    paths = Paths(pairs[0][1].port.project_id)
    return min((_between(paths, *pair, wish) for pair in near or pairs), key=lambda walk: walk.blocks)


def _between(paths: Paths, source: Address, target: Address, wish: Wish) -> Walk:
    hops = [_nic(target)]
    there, back = paths.trace(source, target.address), paths.trace(target, source.address)
    routers = list(there.routers) if isinstance(there, Taken) else []
    if isinstance(there, Lost):
        hops.append(there.hop)
    else:
        hops.append(way_there(there))
        hops += [back.hop] if isinstance(back, Lost) else []
    family = target.subnet.family
    for port, direction, other in (
        (source.port, Direction.EGRESS, target),
        (target.port, Direction.INGRESS, source),
    ):
        groups = frozenset(other.port.security_groups.values_list("pk", flat=True))
        hops.append(judge(port, direction, Packet(family, wish, other.address, groups)))
    if source.port.host_id != target.port.host_id:
        hops += _tunnel(source.port, target.port)
        hops += _on_host(source.port, routers)
    hops += _on_host(target.port, routers)
    return Walk(tuple(hops), target, source, routers[-1] if routers else None)


def _tunnel(source: Port, target: Port) -> Iterator[Hop]:
    """Between two hosts: both have to have an address for tunnels."""
    if source.host and target.host and not (hosting.vtep(source.host) and hosting.vtep(target.host)):
        words = "They are on different hosts, and one of these hosts has no tunnels to others."
        yield broken("tunnel", "the hosts' addresses for tunnels", words)


def _on_host(port: Port, routers: Sequence[Router], way_in: UUID | None = None) -> Iterator[Hop]:
    """Whether the port's host has made true what is wanted of its network and of the routers on the way."""
    if port.host_id is None:
        words = "It is on no host that carries networks."
        yield unknown("on_host", f"the network {port.network} on its host", words)
        return
    own: QuerySet[NetworkOnHost] = NetworkOnHost.objects.filter(network=port.network_id, host=port.host_id)
    yield _as_wanted(f"the network {port.network} on the host of {port.holder_name}", own)
    for router in routers:
        rows = RouterOnHost.objects.filter(router=router, host=port.host_id)
        hop = _as_wanted(f"the router {router} on the host of {port.holder_name}", rows)
        if hop.verdict != BLOCKED and way_in:
            problem = next((row.seen_facts.get("problems", {}).get(str(way_in)) for row in rows), None)
            hop = broken("on_host", hop.looked_at, f"Its host cannot route it: {problem}.") if problem else hop
        yield hop


def _as_wanted(looked_at: str, rows: "QuerySet[NetworkOnHost] | QuerySet[RouterOnHost]") -> Hop:
    found: list[OnHost] = list(rows)
    seen = status.of_rows(found) if found else status.NOT_YET
    if seen == READY:
        return ok("on_host", looked_at, "The host has applied it.")
    return broken("on_host", looked_at, seen.reason)
