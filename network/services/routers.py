"""Routers: made, joined to subnets, parted from them. A leg is a port that the router holds."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.db.models import QuerySet

from cloud.events.services import Actor, record
from cloud.problems import Conflict, Fault, Problem
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from network import addressing, hosting
from network.addressing import Route
from network.models import Address, Port, Router, Subnet
from network.services import outside, ports
from network.services.changes import change
from network.services.ports import ROUTER, Holder, Wanted
from network.services.uses import Use, refuse_if_used, use

MAX_LEGS = 100


class UnfitRoutes(Problem):
    """Routes that the router could not follow; `errors` names every one."""

    title: ClassVar[str] = "The routes do not fit the router"


class Overlap(Conflict):
    """The router would not know where to send a packet."""

    title: ClassVar[str] = "The subnet overlaps another one of the router"


def legs(router: Router) -> "QuerySet[Address]":
    """The addresses of a router on its subnets, one each."""
    held = Port.objects.filter(holder_type=ROUTER, holder_id=router.pk)
    return Address.objects.filter(port__in=held).select_related("subnet", "port__network").order_by("port__holder_slot")


def legs_of(project: Project) -> "QuerySet[Address]":
    """The legs of all routers of a project."""
    held = Port.objects.filter(project=project, holder_type=ROUTER)
    return Address.objects.filter(port__in=held).select_related("subnet", "port").order_by("port__holder_slot")


def router_of(subnet: Subnet) -> Router | None:
    """The router with a way out that a subnet is joined to."""
    held = Port.objects.filter(holder_type=ROUTER, addresses__subnet=subnet).values("holder_id")
    return Router.objects.filter(pk__in=held, external=True).order_by("created_at").first()


def create(
    *,
    project: Project,
    actor: Actor,
    name: str,
    labels: dict[str, str] | None = None,
    external: bool = True,
    snat: bool = True,
) -> Router:
    """A router that joins nothing yet. Raises OverQuota."""
    quota.require(project, routers=1)
    router = Router.objects.create(project=project, name=name, labels=labels or {}, external=external, snat=snat)
    record("network.router.create", router, actor=actor, after={"name": name, "external": external, "snat": snat})
    return router


def update(*, router: Router, actor: Actor, changes: Mapping[str, Any]) -> Router:
    """Change name, labels, way out, SNAT or static routes. Raises UnfitRoutes, InUse."""
    quota.lock(router.project_id)
    joined = [leg.subnet for leg in legs(router)]
    _require_routes(changes.get("routes", ()), joined)
    if changes.get("external") is False:
        words = "They lead in by its way out. Disassociate or delete these first."
        refuse_if_used(router, _uses_of_way_out(router, joined), hint=words)
    before_name = router.name
    router, before = change(router, changes)
    if router.name != before_name:
        ports.rename_holder(holder_type=ROUTER, holder_id=router.pk, name=router.name)
    record("network.router.update", router, actor=actor, before=before, after=changes)
    if changes.keys() & {"name", "external", "snat", "routes"}:
        hosting.changed(router.project_id, routers=[router.pk])
    return router


def _require_routes(routes: Sequence[Route], joined: Sequence[Subnet]) -> None:
    faults: list[Fault] = []
    seen: set[str] = set()
    for index, route in enumerate(routes):
        for fault in addressing.faults_of_route(route, [subnet.cidr for subnet in joined]):
            faults.append(Fault(f"/routes/{index}{fault.pointer}", fault.message))
        if route["destination"] in seen:
            words = f"There are two routes to {route['destination']}."
            faults.append(Fault(f"/routes/{index}/destination", words))
        seen.add(route["destination"])
    if faults:
        raise UnfitRoutes(" ".join(fault.message for fault in faults), errors=faults)


def attach(*, router: Router, actor: Actor, subnet: Subnet, address: str | None = None) -> Router:
    """Join a subnet: as its gateway when that address is free, else with another one.

    Raises Overlap, UnfitPort, AddressesTaken, NoAddressLeft, Conflict.
    """
    quota.lock(router.project_id)
    router = Router.objects.select_for_update(no_key=True).get(pk=router.pk)
    joined = list(legs(router))
    _require_joinable(subnet, [leg.subnet for leg in joined], router)
    if address is None and subnet.gateway and not subnet.addresses.filter(address=subnet.gateway).exists():
        address = subnet.gateway
    slot = max((leg.port.holder_slot or 0 for leg in joined), default=-1) + 1
    is_gateway = address is not None and address == subnet.gateway
    port = ports.create(
        network=subnet.network, actor=actor, addresses=[] if is_gateway else [Wanted(subnet, address)],
        gateway_of=subnet if is_gateway else None, holder=Holder(ROUTER, router.pk, slot, router.name),
        pointer="/address",
    )  # fmt: skip
    after = {"subnet": subnet.name, "address": port.addresses.get().address}
    record("network.router.attach", router, actor=actor, after=after)
    hosting.changed(router.project_id, routers=[router.pk], places=True)
    return router


def _require_joinable(subnet: Subnet, joined: Sequence[Subnet], router: Router) -> None:
    if subnet in joined:
        words = f"{router} has joined {subnet} already."
        raise Conflict(words, errors=[Fault("/subnet", words, "conflict")])
    if len(joined) >= MAX_LEGS:
        words = f"A router joins at most {MAX_LEGS} subnets."
        raise Conflict(words, errors=[Fault("/subnet", words, "conflict")])
    overlapping = [other for other in joined if addressing.overlaps(subnet.cidr, other.cidr)]
    if overlapping:
        named = ", ".join(f"{other} ({other.cidr})" for other in overlapping)
        words = f"{subnet} ({subnet.cidr}) overlaps what {router} joins already: {named}."
        raise Overlap(words, errors=[Fault("/subnet", words, "conflict")])


def detach(*, router: Router, actor: Actor, subnet: Subnet) -> Router:
    """Part from a subnet. Raises Conflict when it is not joined, InUse when something needs the way through it."""
    quota.lock(router.project_id)
    leg = legs(router).filter(subnet=subnet).first()
    if leg is None:
        words = f"{router} does not join {subnet}."
        raise Conflict(words, errors=[Fault("/subnet", words, "conflict")])
    words = "They lead in through this router. Disassociate or delete these first."
    refuse_if_used(subnet, _uses_of_way_out(router, [subnet]), hint=words)
    left = [other.subnet for other in legs(router).exclude(pk=leg.pk)]
    try:
        _require_routes(router.routes, left)
    except UnfitRoutes:
        words = f"A static route of {router} needs {subnet}. Take the route away first."
        raise Conflict(words, errors=[Fault("/subnet", words, "conflict")]) from None
    ports.remove(leg.port, actor)
    record("network.router.detach", router, actor=actor, before={"subnet": subnet.name, "address": leg.address})
    return router


def delete(*, router: Router, actor: Actor, cascade: bool = False) -> None:
    """Remove a router that joins nothing; with `cascade` it parts from its subnets first. Raises InUse."""
    quota.lock(router.project_id)
    joined = list(legs(router))
    subnets = [leg.subnet for leg in joined]
    if cascade:
        for subnet in subnets:
            if router.external and router_of(subnet) == router:
                outside.let_go_of(subnet.addresses.all(), actor)
        for leg in joined:
            ports.remove(leg.port, actor)
    else:
        uses = [use("subnet", subnet) for subnet in subnets]
        refuse_if_used(router, uses, hint="Detach these first, or use cascade.")
    record("network.router.delete", router, actor=actor, before={"name": router.name})
    hosting.forget(router.on_hosts.all())
    router.delete()


def _uses_of_way_out(router: Router, subnets: Sequence[Subnet]) -> list[Use]:
    """What leads in by this router to machines on these subnets."""
    led = [subnet for subnet in subnets if router.external and router_of(subnet) == router]
    return outside.uses_of_addresses(Address.objects.filter(subnet__in=led))
