"""Ports: made, held by what is plugged in, bound to the host where that is, deleted."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.db.models import QuerySet

from cloud.events.services import Actor, record
from cloud.hosts.models import Host
from cloud.problems import Conflict, Fault, Problem, explain_constraint
from cloud.queries import Prepared
from cloud.tenancy import quota
from network import addressing, allocation, hosting
from network.default_routes import networks_beside, with_default_routes
from network.models import Address, Network, Port, PortSecurityGroup, SecurityGroup, Subnet
from network.models.ports import mac_of
from network.services import outside
from network.services.changes import change
from network.services.uses import refuse_if_used, user_of

ROUTER = "router"  # the one kind of holder that this app has itself
MAX_ADDRESSES, MAX_GROUPS, MAX_PAIRS = 10, 10, 20

explain_constraint("address_is_used_once_in_a_subnet", "This address is taken.", pointer="/addresses")
explain_constraint("holder_has_one_port_a_slot", "Another port is plugged in there.")
explain_constraint("holder_has_one_chosen_gateway", "Another NIC was chosen at the same time.", pointer="/gateway")


class UnfitPort(Problem):
    """The parts of a port do not fit together; `errors` names every fault."""

    title: ClassVar[str] = "The port cannot be like this"


class AddressesTaken(Conflict):
    """Of the addresses that were asked for, some belong to others; `errors` names every one."""

    title: ClassVar[str] = "An address is taken"


@dataclass(frozen=True)
class Wanted:
    """An address that a port should have: this one, or any of a subnet."""

    subnet: Subnet | None = None
    address: str | None = None


@dataclass(frozen=True)
class Holder:
    """What is plugged into a port, and where in it. `mbps`: how many Mbit/s may pass each way; None: no limit.
    `gateway`: its default route is to lead by this port."""

    type: str
    id: UUID
    slot: int
    name: str
    mbps: int | None = None
    gateway: bool = False


def create(
    *,
    network: Network,
    actor: Actor,
    name: str = "",
    labels: dict[str, str] | None = None,
    addresses: Sequence[Wanted] = (),
    security_groups: Sequence[SecurityGroup] | None = None,
    allowed_address_pairs: Sequence[Mapping[str, str]] = (),
    holder: Holder | None = None,
    gateway_of: Subnet | None = None,
    pointer: str = "/addresses",
) -> Port:
    """A port with the addresses that are wanted; without any, one of each family that the network has subnets of.

    Without security groups it is in the project's `default`. A port that is made for a `holder` goes with it. Only a
    router's leg may be the gateway of a subnet (`gateway_of`).
    Raises UnfitPort, AddressesTaken, NoAddressLeft, OverQuota.
    """
    is_leg = holder is not None and holder.type == ROUTER
    if is_leg:
        quota.lock(network.project_id)
    else:
        quota.require(network.project_id, ports=1)
    if gateway_of is not None:
        wanted = [(gateway_of, gateway_of.gateway)]
    else:
        wanted = fit(network, addresses, pointer=pointer) or _one_of_each_family(network)
    _make_room(holder)
    ident = uuid4()
    port = Port.objects.create(
        id=ident, project_id=network.project_id, network=network, name=name or f"port-{ident.hex[:8]}",
        labels=labels or {}, mac=mac_of(ident), allowed_address_pairs=list(allowed_address_pairs),
        goes_with_holder=holder is not None, **_held(holder),
    )  # fmt: skip
    for index, (subnet, address) in enumerate(wanted):
        if address is not None:
            Address.objects.create(port=port, subnet=subnet, address=address)
        elif is_leg or not subnet.is_autonomous:
            allocation.allocate(port, subnet, pointer=f"{pointer}/{index}")
    if not is_leg:
        for subnet in network.subnets.all():
            give_autonomous(subnet, Port.objects.filter(pk=port.pk))
    if security_groups is None:
        security_groups = [] if is_leg else default_groups(network.project_id)
    port.security_groups.set(security_groups)
    record("network.port.create", port, actor=actor, after=_shown(port, network))
    return port


def give_autonomous(subnet: Subnet, among: "QuerySet[Port]") -> list[Port]:
    """Give ports the addresses that their machines make of their MACs on a subnet. Returns those that got one."""
    if not subnet.is_autonomous:
        return []
    ports = list(among.exclude(holder_type=ROUTER).exclude(addresses__subnet=subnet))
    made = [Address(port=port, subnet=subnet, address=addressing.made_of_mac(subnet.cidr, port.mac)) for port in ports]
    Address.objects.bulk_create(made)
    return ports


def fit(network: Network, wanted: Sequence[Wanted], *, pointer: str = "/addresses") -> list[tuple[Subnet, str | None]]:
    """The subnet of each address that is wanted. Raises UnfitPort or AddressesTaken, naming every fault."""
    subnets = list(network.subnets.order_by("created_at", "pk"))
    found: list[tuple[Subnet, str | None]] = []
    faults: list[Fault] = []
    for index, one in enumerate(wanted):
        subnet, words = _subnet_of(one, network, subnets)
        if subnet is None:
            faults.append(Fault(f"{pointer}/{index}", words))
        elif (subnet, one.address) in found and one.address:
            faults.append(Fault(f"{pointer}/{index}", f"{one.address} is asked for twice."))
        else:
            found.append((subnet, one.address))
    if faults:
        raise UnfitPort(" ".join(fault.message for fault in faults), errors=faults)
    taken = set(Address.objects.filter(subnet__in=subnets).values_list("address", flat=True)) if found else set()
    faults = [
        Fault(f"{pointer}/{index}", f"{address} is taken.", "conflict")
        for index, (_, address) in enumerate(found)
        if address in taken
    ]
    if faults:
        raise AddressesTaken(" ".join(fault.message for fault in faults), errors=faults)
    return found


def _subnet_of(one: Wanted, network: Network, subnets: Sequence[Subnet]) -> tuple[Subnet | None, str]:
    """The subnet that an address belongs to, or words for why there is none."""
    if one.subnet is not None and one.subnet not in subnets:
        return None, f"{one.subnet} is not a subnet of {network}."
    if one.address is None:
        return (one.subnet, "") if one.subnet is not None else (None, "Give a subnet, an address, or both.")
    fitting = [
        subnet
        for subnet in ([one.subnet] if one.subnet else subnets)
        if not addressing.fault_of_member(one.address, subnet.cidr)
    ]
    if not fitting:
        ranges = [one.subnet.cidr] if one.subnet else [subnet.cidr for subnet in subnets]
        return (
            None,
            f"{one.address} is no usable address of {' or '.join(ranges) or f'{network}, which has no subnet'}.",
        )
    if one.address == fitting[0].gateway:
        return None, f"{one.address} is the gateway of {fitting[0]}."
    return fitting[0], ""


def _one_of_each_family(network: Network) -> list[tuple[Subnet, str | None]]:
    first: dict[int, Subnet] = {}
    for subnet in network.subnets.order_by("created_at", "pk"):
        first.setdefault(subnet.family, subnet)
    return [(subnet, None) for _, subnet in sorted(first.items())]


def default_groups(project_id: UUID) -> list[SecurityGroup]:
    return list(SecurityGroup.objects.filter(project_id=project_id, name="default"))


def update(
    *,
    port: Port,
    actor: Actor,
    name: str | None = None,
    labels: dict[str, str] | None = None,
    security_groups: Sequence[SecurityGroup] | None = None,
    allowed_address_pairs: Sequence[Mapping[str, str]] | None = None,
    gateway: bool | None = None,
) -> Port:
    """Change a port's name, labels, groups, the further addresses that it may use, or make it the one by which its
    machine has its default route. Raises UnfitPort."""
    quota.lock(port.project_id)
    pairs = None if allowed_address_pairs is None else list(allowed_address_pairs)
    asked = {"name": name, "labels": labels, "allowed_address_pairs": pairs}
    changes: dict[str, Any] = {field: value for field, value in asked.items() if value is not None}
    port, before = change(port, changes)
    groups = set(port.security_groups.all())
    if security_groups is not None:
        before["security_groups"] = sorted(group.name for group in groups)
        changes["security_groups"] = sorted(group.name for group in security_groups)
        port.security_groups.set(security_groups)
        groups.update(security_groups)
    if gateway is not None and (gateway != port.gateway or has_default_route(port) != gateway):
        before["gateway"], changes["gateway"] = port.gateway, gateway
        _choose(port, gateway)
    record("network.port.update", port, actor=actor, before=before, after=changes)
    if port.host_id and changes.keys() & {"security_groups", "allowed_address_pairs", "gateway"}:
        members_of = [group.pk for group in groups] if security_groups is not None else []
        beside = networks_beside([port]) if "gateway" in changes else set()
        hosting.changed(port.project_id, networks={port.network_id, *beside}, members_of=members_of)
    return port


def _choose(port: Port, gateway: bool) -> None:
    """A port that is not chosen any more leaves the default route to the first NIC with a gateway. Raises UnfitPort."""
    words = ""
    if gateway and not is_held_from_above(port):
        words = f"{port} is not plugged into an instance, so nothing has a default route by it."
    elif not gateway and not port.gateway:
        words = f"{port} is the first NIC that has a gateway. Choose another one, and this one loses the default route."
    if words:
        raise UnfitPort(words, errors=[Fault("/gateway", words)])
    if gateway:
        require_gateway(port, pointer="/gateway")
    _choose_none(port.holder_type, port.holder_id)
    Port.objects.filter(pk=port.pk).update(gateway=gateway)


def delete(*, port: Port, actor: Actor, cascade: bool = False) -> None:
    """Remove a port that nothing is plugged into. Its addresses are free at once. Raises InUse.

    A floating IP or port forward that leads to it is a user, too; with `cascade` the one is left alone, the other
    deleted.
    """
    quota.lock(port.project_id)
    if port.holder_id:
        words = "Detach it first." if port.holder_type == ROUTER else "Detach it first, or delete its holder."
        refuse_if_used(port, [user_of(port)], hint=words)
    if not cascade:
        refuse_if_used(port, outside.uses_of(port), hint="Disassociate or delete these first, or use cascade.")
    remove(port, actor)


def remove(port: Port, actor: Actor) -> None:
    """Delete a port, whatever leads to it. The caller has made sure that it may go."""
    outside.let_go(port, actor)
    record("network.port.delete", port, actor=actor, before=_shown(port, port.network))
    groups = list(port.security_groups.values_list("pk", flat=True))
    port.delete()
    if port.holder_type == ROUTER and port.holder_id:
        hosting.changed(port.project_id, routers=[port.holder_id], places=True)
    elif port.host_id:
        hosting.changed(port.project_id, networks=[port.network_id], members_of=groups, places=True)


def is_held_from_above(port: Port) -> bool:
    """Whether what is plugged in is not of this app: a machine."""
    return port.holder_id is not None and port.holder_type != ROUTER


def hold(*, port: Port, holder: Holder) -> Port:
    """Plug something into a port. Raises InUse when something else is."""
    port = Port.objects.select_for_update().get(pk=port.pk)
    if port.holder_id is not None and port.holder_id != holder.id:
        refuse_if_used(port, [user_of(port)], hint="Take another port.")
    _make_room(holder)
    return change(port, _held(holder))[0]


def _make_room(holder: Holder | None) -> None:
    """Before a port comes by which a machine is to have its default route: none of its others is chosen any more."""
    if holder is not None and holder.gateway:
        _choose_none(holder.type, holder.id)


def _choose_none(holder_type: str, holder_id: UUID | None) -> None:
    Port.objects.filter(holder_type=holder_type, holder_id=holder_id, gateway=True).update(gateway=False)


def choose_again(*, port_id: UUID, holder_id: UUID) -> None:
    """A later choice has come to nothing: a machine has its default route by this port again, if it still can, and
    nobody has chosen another one since."""
    held = list(Port.objects.select_for_update().filter(holder_id=holder_id).order_by("pk"))
    found = next((port for port in held if port.pk == port_id), None)
    if found is None or any(port.gateway for port in held):
        return
    Port.objects.filter(pk=found.pk).update(gateway=True)
    if found.host_id:
        hosting.changed(found.project_id, networks={found.network_id, *networks_beside([found])})


def has_default_route(port: Port) -> bool:
    """Whether a machine has its default route by a port, in one family at least."""
    return is_held_from_above(port) and with_default_routes(port.addresses.all()).filter(leads=True).exists()


def require_gateway(port: Port, *, pointer: str) -> None:
    """Raises UnfitPort where no default route can lead by a port."""
    if not port.addresses.filter(subnet__gateway__isnull=False).exists():
        words = f"No subnet of {port} has a gateway, so no default route can lead by it."
        raise UnfitPort(words, errors=[Fault(pointer, words)])


def held_by(holder_type: str, holder_id: UUID) -> list[Port]:
    """The ports that something is plugged into, in the order of its slots."""
    ports = Port.objects.filter(holder_type=holder_type, holder_id=holder_id)
    return list(ports.select_related("network").prefetch_related("addresses__subnet").order_by("holder_slot"))


def rename_holder(*, holder_type: str, holder_id: UUID, name: str) -> None:
    """Something that is plugged in has another name now, also for DNS."""
    ports = Port.objects.filter(holder_type=holder_type, holder_id=holder_id)
    ports.update(holder_name=name)
    for project_id, network_id in ports.filter(host__isnull=False).values_list("project_id", "network_id"):
        hosting.changed(project_id, networks=[network_id])


def limit(*, holder_type: str, holders: Collection[UUID], mbps: int | None) -> None:
    """So much may pass each port of these holders from now on, each way; None: as much as does."""
    held = Port.objects.filter(holder_type=holder_type, holder_id__in=holders)
    places: dict[UUID, set[UUID]] = defaultdict(set)
    for project_id, network_id in held.filter(host__isnull=False).values_list("project_id", "network_id"):
        places[project_id].add(network_id)
    held.update(mbps=mbps)
    for project_id, networks in sorted(places.items()):
        hosting.changed(project_id, networks=networks)


def bind(*, holder_type: str, holder_id: UUID, host: Host | None) -> None:
    """Say on which host the holder of some ports is; None: on none any more. Binding again changes nothing."""
    ports = Port.objects.filter(holder_type=holder_type, holder_id=holder_id)
    _move(list(ports.select_for_update().order_by("pk")), host)


def _move(ports: Sequence[Port], host: Host | None) -> None:
    moved = [port for port in ports if port.host_id != (host.pk if host else None)]
    if not moved:
        return
    Port.objects.filter(pk__in=[port.pk for port in moved]).update(host=host)
    groups = PortSecurityGroup.objects.filter(port__in=moved).values_list("group_id", flat=True)
    networks, leading = {port.network_id for port in moved} | networks_beside(moved), outside.routers_to(moved)
    hosting.changed(moved[0].project_id, networks=networks, routers=leading, members_of=set(groups), places=True)
    for port in moved:
        port.host = host


def release(*, holder_type: str, holder_id: UUID, actor: Actor) -> None:
    """The holder is gone: ports that were made for it go with it, others are free again."""
    let_go(_locked.rows(holder_type, holder_id), actor)


@Prepared
def _locked(holder_type: Any, holder_id: Any) -> "QuerySet[Port]":
    """Those that something holds."""
    return Port.objects.select_for_update().filter(holder_type=holder_type, holder_id=holder_id).order_by("pk")


def let_go(ports: Sequence[Port], actor: Actor) -> None:
    """Their holder has let go of these ports. They are locked."""
    _move(ports, None)
    for port in ports:
        if port.goes_with_holder:
            remove(port, actor)
        else:
            change(port, _held(None))


def _held(holder: Holder | None) -> dict[str, Any]:
    if holder is None:
        return {
            "holder_type": "", "holder_id": None, "holder_slot": None, "holder_name": "", "mbps": None,
            "gateway": False,
        }  # fmt: skip
    return {
        "holder_type": holder.type, "holder_id": holder.id, "holder_slot": holder.slot, "holder_name": holder.name,
        "mbps": holder.mbps, "gateway": holder.gateway,
    }  # fmt: skip


def _shown(port: Port, network: Network) -> dict[str, Any]:
    return {
        "network": network.name,
        "mac": port.mac,
        "addresses": [one.address for one in port.addresses.order_by("pk")],
        "holder": f"{port.holder_type} {port.holder_name}".strip() or None,
    }
