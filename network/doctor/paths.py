"""Which routers a packet takes: what guests are told of gateways and routes, and what routers know."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

from network import addressing
from network.doctor.hops import Fix, Hop, blocked, ok
from network.models import Address, Port, Router, Subnet
from network.services import ports, routers, subnets

MAX_ROUTERS = 8  # on one way: more is a loop
DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True)
class Taken:
    """A way that was found: its routers in their order, and the leg by which the last one reaches the target."""

    routers: tuple[Router, ...] = ()
    legs_out: bool = False  # it leaves the cloud


@dataclass(frozen=True)
class Lost:
    """Where a packet is lost."""

    hop: Hop


class Paths:
    """The routers of a project as they are now."""

    def __init__(self, project_id: UUID) -> None:
        self.routers = Router.objects.select_related("project").in_bulk(
            list(Router.objects.filter(project=project_id).values_list("pk", flat=True))
        )
        found = Address.objects.filter(port__project=project_id, port__holder_type="router")
        self.legs = list(found.select_related("subnet__network", "port").order_by("port__created_at"))

    def joined(self, subnet: Subnet) -> list[Address]:
        """The legs that routers have on a subnet."""
        return [leg for leg in self.legs if leg.subnet_id == subnet.pk]

    def router(self, leg: Address) -> Router:
        assert leg.port.holder_id is not None
        return self.routers[leg.port.holder_id]

    def legs_of(self, router: Router) -> list[Address]:
        return [leg for leg in self.legs if leg.port.holder_id == router.pk]

    def trace(self, source: Any, to: str | None) -> Taken | Lost:
        """The way from a guest's address (of `walk.addresses_of`) to another one; to the world when that is None."""
        subnet = source.subnet
        if to is not None and ip_address(to) in ip_network(subnet.cidr):
            return Taken()
        told = f"what DHCP and router advertisements tell guests on {subnet}"
        hop = next_hop(subnet.routes, to, subnet.family) or subnet.gateway
        if hop == subnet.gateway and source.is_aside:
            words = f"Guests are told no gateway of {subnet}: their default route is by another NIC."
            return Lost(blocked("gateway", told, words, self._lead_by(source.port)))
        if hop is None:
            words = f"Guests on {subnet} are told no way to {to or 'the world'}: the subnet has no gateway."
            return Lost(blocked("gateway", told, words, self._tell_way(subnet, to)))
        leg = next((leg for leg in self.legs if leg.address == hop and leg.subnet_id == subnet.pk), None)
        if leg is None:
            words = f"Guests on {subnet} send it to {hop}, and no router has that address."
            return Lost(blocked("gateway", told, words, self._be_gateway(subnet, to)))
        return self._through(leg, to)

    def _through(self, leg: Address, to: str | None) -> Taken | Lost:
        taken: list[Router] = []
        while len(taken) < MAX_ROUTERS:
            router = self.router(leg)
            taken.append(router)
            own = self.legs_of(router)
            if to is not None and any(ip_address(to) in ip_network(each.subnet.cidr) for each in own):
                return Taken(tuple(taken))
            hop = next_hop(router.routes, to, leg.subnet.family)
            if hop is None:
                if to is None and router.external:
                    return Taken(tuple(taken), legs_out=True)
                return Lost(self._no_way(router, to))
            networks = {each.subnet.network_id for each in own}
            onward = (each for each in self.legs if each.address == hop and each.subnet.network_id in networks)
            found = next((each for each in onward if each.port.holder_id != router.pk), None)
            if found is None:
                words = f"The router {router} sends it to {hop}, and no router has that address."
                return Lost(blocked("router", f"static routes of the router {router}", words))
            leg = found
        words = f"{MAX_ROUTERS} routers in a row: the static routes of {taken[0]} and {taken[1]} go round in a circle."
        return Lost(blocked("router", "static routes", words))

    def _no_way(self, router: Router, to: str | None) -> Hop:
        looked_at = f"what the router {router} joins, and its static routes"
        if to is None:
            words = f"The router {router} has no way out of the cloud."
            return blocked("router", looked_at, words, self.lead_out(router))
        targets = [one for one in Subnet.objects.filter(project=router.project_id) if _holds(one, to)]
        joining = next(filter(None, (self.join(router, one) for one in targets)), None)
        return blocked("router", looked_at, f"The router {router} knows no way to {to}.", joining)

    # What opens it

    def join(self, router: Router, subnet: Subnet) -> Fix | None:
        """Join a subnet to a router, unless that has an overlapping one."""
        if any(addressing.overlaps(subnet.cidr, leg.subnet.cidr) for leg in self.legs_of(router)):
            return None
        return Fix(
            "POST",
            f"/api/v1/projects/{router.project}/routers/{router}/attach-subnet",
            {"subnet": subnet.name},
            f"Joins the subnet {subnet} to the router {router}.",
            lambda actor: routers.attach(router=router, actor=actor, subnet=subnet),
        )

    def join_any(self, subnet: Subnet, *, external: bool) -> Fix | None:
        """Join a subnet to the first router that can have it; one with a way out, if there has to be one."""
        fitting = sorted((one for one in self.routers.values() if one.external or not external), key=_by_age)
        return next(filter(None, (self.join(router, subnet) for router in fitting)), None)

    def lead_out(self, router: Router) -> Fix:
        return Fix(
            "PATCH",
            f"/api/v1/projects/{router.project}/routers/{router}",
            {"external": True},
            f"Gives the router {router} a way out of the cloud.",
            lambda actor: routers.update(router=router, actor=actor, changes={"external": True}),
        )

    def _be_gateway(self, subnet: Subnet, to: str | None) -> Fix | None:
        return self._tell_way(subnet, to) or self.join_any(subnet, external=to is None)

    def _lead_by(self, port: Port) -> Fix:
        return Fix(
            "PATCH",
            f"/api/v1/projects/{port.project}/ports/{port}",
            {"gateway": True},
            f"Has the guest take its default route by the NIC at {port}. It learns it with its next lease.",
            lambda actor: ports.update(port=port, actor=actor, gateway=True),
        )

    def _tell_way(self, subnet: Subnet, to: str | None) -> Fix | None:
        """Tell guests to send it to a router that has joined the subnet already."""
        leg = next(iter(self.joined(subnet)), None)
        if leg is None:
            return None
        holding = (each.subnet.cidr for each in self.legs_of(self.router(leg)) if to and _holds(each.subnet, to))
        destination = DEFAULT[subnet.family] if to is None else next(holding, None)
        if destination is None or any(route["destination"] == destination for route in subnet.routes):
            return None
        told = [*subnet.routes, {"destination": destination, "next_hop": leg.address}]
        return Fix(
            "PATCH",
            f"/api/v1/projects/{self.router(leg).project}/subnets/{subnet}",
            {"routes": told},
            f"Tells guests on {subnet} to reach {destination} by {leg.address}. They learn it with their next lease.",
            lambda actor: subnets.update(subnet=subnet, actor=actor, changes={"routes": told}),
        )


def next_hop(routes: Iterable[Mapping[str, Any]], to: str | None, family: int) -> str | None:
    """Where the narrowest route leads that holds an address; to the world only a route to everywhere does."""
    wanted = [
        (ip_network(route["destination"]).prefixlen, str(route["next_hop"]))
        for route in routes
        if (
            route["destination"] == DEFAULT[family]
            if to is None
            else ip_address(to) in ip_network(route["destination"])
        )
    ]
    return max(wanted)[1] if wanted else None


def way_there(taken: Taken) -> Hop:
    """The hop of a way that was found."""
    if not taken.routers:
        return ok("router", "the subnets of both ends", "Both are on the same subnet: no router is between them.")
    named = ", then ".join(str(router) for router in taken.routers)
    return ok("router", f"the routers on the way: {named}", f"It passes the router {named}.")


def _holds(subnet: Subnet, address: str) -> bool:
    return ip_address(address) in ip_network(subnet.cidr)


def _by_age(router: Router) -> datetime:
    return router.created_at
