"""Floating IPs: addresses of pools that a project holds and points at its machines."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import uuid4

from cloud.events.services import Actor, record
from cloud.problems import Conflict, Fault, Problem, explain_constraint
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from network import addressing, allocation
from network.models import Address, AddressPool, FloatingIP, Port
from network.services import outside, routers
from network.services.changes import change
from network.services.ports import ROUTER
from network.services.uses import refuse_if_used, use

explain_constraint("floating_address_is_used_once", "This address is taken.", pointer="/address")
explain_constraint("address_has_one_floating_ip", "Another floating IP leads there already.", pointer="/port")


class NoPool(Problem):
    """Which pool an address should be taken from cannot be told."""

    title: ClassVar[str] = "Which address pool is not clear"


class NoWayIn(Conflict):
    """What is asked for would lead nowhere."""

    title: ClassVar[str] = "There is no way from outside to this port"


def create(
    *,
    project: Project,
    actor: Actor,
    name: str = "",
    labels: dict[str, str] | None = None,
    pool: AddressPool | None = None,
    address: str | None = None,
    port: Port | None = None,
) -> FloatingIP:
    """Take an address of a pool (of the only one, when nothing is said), and point it at a port where one is given.

    Raises NoPool, NoAddressLeft, NoWayIn, OverQuota, Conflict.
    """
    quota.require(project, floating_ips=1)
    pool = pool or _only_pool()
    if address is None:
        address = allocation.next_floating(pool)
    elif words := addressing.fault_of_member(address, pool.cidr):
        raise NoPool(words, errors=[Fault("/address", words)])
    ident = uuid4()
    floating = FloatingIP.objects.create(
        id=ident, project=project, pool=pool, name=name or f"ip-{ident.hex[:8]}", labels=labels or {}, address=address
    )
    record("network.floating_ip.create", floating, actor=actor, after={"address": address, "pool": pool.name})
    return associate(floating=floating, actor=actor, port=port) if port else floating


def _only_pool() -> AddressPool:
    pools = list(AddressPool.objects.order_by("name")[:2])
    if len(pools) == 1:
        return pools[0]
    words = "Say of which pool." if pools else "This cloud has no address pool. An admin of the cloud can make one."
    raise NoPool(words, errors=[Fault("/pool", words)])


def update(*, floating: FloatingIP, actor: Actor, changes: Mapping[str, Any]) -> FloatingIP:
    """Change a floating IP's name or labels."""
    floating, before = change(floating, changes)
    record("network.floating_ip.update", floating, actor=actor, before=before, after=changes)
    return floating


def associate(*, floating: FloatingIP, actor: Actor, port: Port, address: str | None = None) -> FloatingIP:
    """Point it at a port, at its first address or at this one, wherever it led before. Raises NoWayIn, InUse."""
    quota.lock(floating.project_id)
    refuse_if_used(
        floating,
        [use("port_forward", forward) for forward in floating.port_forwards.order_by("name")],
        hint="Its ports lead to several machines. Delete these first.",
    )
    target = reachable(port, address, family=6 if ":" in floating.address else 4)
    floating, before = change(floating, {"target": target})
    told = {"target": str(before["target"]) if before["target"] else None}
    after = {"target": target.address, "port": port.name}
    record("network.floating_ip.associate", floating, actor=actor, before=told, after=after)
    outside.leads_elsewhere(floating.project_id, filter(None, (before["target"], target)))
    return floating


def reachable(port: Port, address: str | None, *, family: int = 4) -> Address:
    """The address of a port that something from outside may lead to. Locks the port. Raises NoWayIn."""
    port = Port.objects.select_for_update().get(pk=port.pk)
    if port.holder_type == ROUTER:
        words = f"{port} is a leg of the router {port.holder_name}."
        raise NoWayIn(words, errors=[Fault("/port", words, "conflict")])
    own = port.addresses.select_related("subnet").order_by("pk")
    fitting = [one for one in own if one.subnet.family == family and address in (None, one.address)]
    if not fitting:
        words = f"{port} does not have the address {address}." if address else f"{port} has no IPv{family} address."
        raise NoWayIn(words, errors=[Fault("/address" if address else "/port", words, "conflict")])
    target = fitting[0]
    if routers.router_of(target.subnet) is None:
        words = f"{target.subnet} is not joined to a router that has a way out. Attach it to one first."
        raise NoWayIn(words, errors=[Fault("/port", words, "conflict")])
    return target


def disassociate(*, floating: FloatingIP, actor: Actor) -> FloatingIP:
    """Point it at nothing; the project keeps it. Doing so twice is no error."""
    quota.lock(floating.project_id)
    floating = FloatingIP.objects.select_for_update(no_key=True).get(pk=floating.pk)
    if floating.target_id:
        outside.disassociate([floating], actor)
    return floating


def delete(*, floating: FloatingIP, actor: Actor, cascade: bool = False) -> None:
    """Give the address back to its pool. Raises InUse while port forwards listen there, unless `cascade`."""
    quota.lock(floating.project_id)
    forwards = list(floating.port_forwards.order_by("name"))
    if cascade:
        for forward in forwards:
            outside.remove_forward(forward, actor)
    else:
        uses = [use("port_forward", forward) for forward in forwards]
        refuse_if_used(floating, uses, hint="Delete these first, or use cascade.")
    record("network.floating_ip.delete", floating, actor=actor, before={"address": floating.address})
    floating.delete()
    if floating.target:
        outside.leads_elsewhere(floating.project_id, [floating.target])
