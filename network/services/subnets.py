"""Subnets: ranges of addresses on a network."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from cloud.events.services import Actor, record
from cloud.problems import Fault, Problem, explain_constraint
from cloud.tenancy import quota
from network import addressing, hosting
from network.addressing import Range, Route
from network.default_routes import networks_beside
from network.models import Network, Port, PortSecurityGroup, Subnet
from network.services import outside, ports
from network.services.changes import change
from network.services.uses import refuse_if_used, user_of

FIRST: Final = "first"  # the gateway's address when nothing is said

explain_constraint(
    "subnets_of_a_network_do_not_overlap", "Another subnet of this network has some of these addresses.",
    pointer="/cidr",
)  # fmt: skip
explain_constraint("gateway_is_in_its_subnet", "The gateway is not in the subnet.", pointer="/gateway")


class UnfitSubnet(Problem):
    """The parts of a subnet do not fit together; `errors` names every fault."""

    title: ClassVar[str] = "The subnet cannot be like this"


def create(
    *,
    network: Network,
    actor: Actor,
    name: str,
    cidr: str,
    labels: dict[str, str] | None = None,
    gateway: str | None = FIRST,
    allocation_ranges: Sequence[Range] | None = None,
    dns: Sequence[str] = (),
    routes: Sequence[Route] = (),
    dhcp: bool = True,
) -> Subnet:
    """A range of addresses on a network. `gateway` None: no way out of it. Raises UnfitSubnet, OverQuota, Conflict."""
    if gateway == FIRST and not addressing.fault_of_subnet(addressing.read_network(cidr)):
        gateway = addressing.default_gateway(cidr)
    plan = {"cidr": cidr, "gateway": gateway, "allocation_ranges": allocation_ranges, "dns": dns, "routes": routes}
    _require_fit(plan)
    quota.require(network.project, subnets=1)
    if allocation_ranges is None:
        allocation_ranges = addressing.default_ranges(cidr, gateway)
    subnet = Subnet.objects.create(
        project=network.project, network=network, name=name, labels=labels or {}, cidr=cidr, gateway=gateway,
        allocation_ranges=list(allocation_ranges), dns=list(dns), routes=list(routes), dhcp=dhcp,
    )  # fmt: skip
    after = {"name": name, "network": network.name, "cidr": cidr, "gateway": gateway}
    record("network.subnet.create", subnet, actor=actor, after=after)
    _tell(subnet)
    return subnet


def _tell(subnet: Subnet) -> None:
    """Hosts hear of the subnet, and of the addresses that machines on its network make there."""
    given = ports.give_autonomous(subnet, subnet.network.ports.all())
    groups = PortSecurityGroup.objects.filter(port__in=given).values_list("group_id", flat=True)
    networks = {subnet.network_id, *networks_beside(given)}
    hosting.changed(subnet.project_id, networks=networks, members_of=set(groups))


def update(*, subnet: Subnet, actor: Actor, changes: Mapping[str, Any]) -> Subnet:
    """Change all but range, gateway and network. Addresses that are given out stay. Raises UnfitSubnet."""
    quota.lock(subnet.project_id)
    _require_fit({"cidr": subnet.cidr, "gateway": subnet.gateway, **changes})
    if subnet.family == 6 and changes.get("dhcp", subnet.dhcp) != subnet.dhcp:
        _require_no_machines(subnet)
    subnet, before = change(subnet, changes)
    record("network.subnet.update", subnet, actor=actor, before=before, after=changes)
    if changes.keys() & {"dns", "routes", "dhcp"}:
        _tell(subnet)
    return subnet


def _require_no_machines(subnet: Subnet) -> None:
    """Machines on it would look for other addresses than their ports have."""
    if subnet.addresses.exclude(port__holder_type=ports.ROUTER).exists():
        words = "Addresses of this subnet are in use, and machines get them in this way. Make another subnet."
        raise UnfitSubnet(words, errors=[Fault("/dhcp", words)])


def _require_fit(plan: Mapping[str, Any]) -> None:
    if faults := list(addressing.faults_of_plan(plan)):
        raise UnfitSubnet(" ".join(fault.message for fault in faults), errors=faults)


def delete(*, subnet: Subnet, actor: Actor, cascade: bool = False) -> None:
    """Remove a subnet of which no address is used; with `cascade` also ports that nothing holds, and legs of routers.

    Raises InUse.
    """
    quota.lock(subnet.project_id)
    if subnet.is_autonomous:
        _take_autonomous(subnet)
    plugged = list(Port.objects.filter(addresses__subnet=subnet).distinct().order_by("name"))
    if cascade:
        machines = [user_of(port) for port in plugged if ports.is_held_from_above(port)]
        refuse_if_used(subnet, machines, hint="Delete or detach these first; they are not deleted with a subnet.")
        for port in plugged:
            ports.remove(port, actor)
    else:
        refuse_if_used(subnet, map(user_of, plugged), hint="Delete or detach these first, or use cascade.")
    remove(subnet, actor)


def _take_autonomous(subnet: Subnet) -> None:
    """Addresses that machines made themselves do not keep a subnet, unless something leads to them."""
    made = subnet.addresses.exclude(port__holder_type=ports.ROUTER)
    refuse_if_used(subnet, outside.uses_of_addresses(made), hint="Disassociate or delete these first.")
    lost = [address.port for address in made.select_related("port")]
    made.delete()
    hosting.changed(subnet.project_id, networks=networks_beside(lost))


def remove(subnet: Subnet, actor: Actor) -> None:
    """Delete a subnet that nothing uses any more."""
    record("network.subnet.delete", subnet, actor=actor, before={"name": subnet.name, "cidr": subnet.cidr})
    subnet.delete()
    hosting.changed(subnet.project_id, networks=[subnet.network_id])


__all__ = ["FIRST", "Fault", "UnfitSubnet", "create", "delete", "remove", "update"]
