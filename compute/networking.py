"""NICs of instances: the ports that are made or taken at a launch, plugged in on the host, and let go at the end.

On a host that carries no networks a machine runs without: its ports keep their addresses, and are on no host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db import transaction
from django.db.models import Case, CharField, Exists, F, Func, IntegerField, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import JSONObject

from cloud.events.services import SYSTEM, Actor
from cloud.hosts.hosted import BROKEN
from cloud.hosts.models import Host
from cloud.operations.workflow import Refused, Topic, Wait
from cloud.problems import Fault, Problem
from cloud.queries import Prepared
from cloud.tenancy.models import Project
from cloud.tenancy.quota import OverQuota
from compute.models import Flavor, Instance, Power
from network import hosting, specs
from network.models import Address, Network, NetworkOnHost, Port, PortSecurityGroup, SecurityGroup
from network.services import ports, security_groups
from network.services.ports import Holder, Wanted

HOLDER = "instance"  # how ports call what is plugged in
DEFAULT = "default"  # the network of an instance about which nothing is said
MAX_NICS = 8
LOOK_AGAIN_SECONDS = 20  # in case a wake-up is lost


class UnfitNetworks(Problem):
    """An instance cannot have the NICs that are asked for; `errors` names every fault."""

    title: ClassVar[str] = "The instance cannot be plugged in like this"


@dataclass(frozen=True)
class Nic:
    """A NIC that an instance should have: on a network, at this address or any; or at a port that there is.

    `gateway`: the instance is to have its default route by it. Without that of any, it has it by the first that can.
    """

    network: Network | None = None
    address: str | None = None
    port: Port | None = None
    gateway: bool = False


@dataclass(frozen=True)
class Neighbours:
    """The hosts that have other machines of an instance's networks, and whether tunnels lead to all of them."""

    hosts: tuple[UUID, ...]
    have_tunnels: bool


@Prepared
def _default_network(project_id: Any) -> "QuerySet[Network]":
    return Network.objects.filter(project=project_id, name=DEFAULT)


def require_alone(nics: Sequence[Nic] | None, count: int) -> None:
    """Raises UnfitNetworks where several instances would have to share an address or a port."""
    if count == 1:
        return
    words = "Several instances cannot have the same. Leave it out, or launch one."
    faults = []
    for index, nic in enumerate(nics or ()):
        if nic.address or nic.port:
            faults.append(Fault(f"/networks/{index}/{'port' if nic.port else 'address'}", words))
    if faults:
        raise UnfitNetworks(words, errors=faults)


def with_ssh(project: Project, actor: Actor, groups: Sequence[SecurityGroup] | None) -> list[SecurityGroup]:
    """The security groups of a launch that is to let SSH in: those asked for or `default`, and one that opens it."""
    wanted = ports.default_groups(project.pk) if groups is None else list(groups)
    opening = security_groups.opening_ssh(project=project, actor=actor)
    return wanted if opening in wanted else [*wanted, opening]


def plug(
    instance: Instance, actor: Actor, nics: Sequence[Nic] | None, groups: Sequence[SecurityGroup] | None = None
) -> None:
    """Make and take the ports of a new instance; without a word about it one on `default`, if its project has that.

    Raises what `network.services.ports` raises.
    """
    if nics is None:
        nics = [Nic(network) for network in _default_network.rows(instance.project_id)]
    for slot, nic in enumerate(nics):
        held = take(instance, actor, nic, groups, slot=slot, pointer=f"/networks/{slot}")
        if nic.gateway:
            ports.require_gateway(held, pointer=f"/networks/{slot}/gateway")


def take(
    instance: Instance, actor: Actor, nic: Nic, groups: Sequence[SecurityGroup] | None, *, slot: int, pointer: str
) -> Port:
    """Make or take the port of one NIC, in this slot."""
    holder = Holder(HOLDER, instance.pk, slot, instance.name, instance.flavor.network_mbps, nic.gateway)
    if nic.port is not None:
        return ports.hold(port=nic.port, holder=holder)
    assert nic.network is not None
    wanted = [Wanted(address=nic.address)] if nic.address else []
    return ports.create(
        network=nic.network, actor=actor, addresses=wanted, security_groups=groups, holder=holder, pointer=pointer
    )


def attach(instance: Instance, actor: Actor, nic: Nic, groups: Sequence[SecurityGroup] | None) -> Port:
    """Plug one more NIC into an instance, in its first slot that is free. The instance is locked.

    Raises UnfitNetworks, and what `network.services.ports` raises.
    """
    if nic.port is None and nic.network is None:
        raise UnfitNetworks("Give a network or a port.", errors=[Fault("/network", "Give a network or a port.")])
    if nic.port is not None and nic.port.holder_id == instance.pk:
        words = f"{nic.port} is plugged into {instance} already."
        raise UnfitNetworks(words, errors=[Fault("/port", words)])
    taken = set(_held(instance).values_list("holder_slot", flat=True))
    free = next((slot for slot in range(MAX_NICS) if slot not in taken), None)
    if free is None:
        raise UnfitNetworks(f"{instance} has {MAX_NICS} NICs, and can have no more.")
    held = take(instance, actor, nic, groups, slot=free, pointer="/address")
    if nic.gateway:
        ports.require_gateway(held, pointer="/gateway")
    return held


def chosen(instance: Instance) -> Port | None:
    """The NIC that somebody has chosen for its default route."""
    return _held(instance).filter(gateway=True).first()


def plugged(instance: Instance, network: Network | None, port: Port | None) -> Port:
    """The port of one NIC of an instance: this one, or its only one on a network. Raises UnfitNetworks."""
    held = list(_held(instance).filter(pk=port.pk) if port else _held(instance).filter(network=network))
    if len(held) == 1:
        return held[0]
    if port:
        pointer, words = "/port", f"{port} is not plugged into {instance}."
    elif network is None:
        pointer, words = "/port", "Give a port or a network."
    else:
        pointer, words = "/network", f"{instance} has {len(held) or 'no'} NICs on {network}."
        words += " Say which by its port." if held else ""
    raise UnfitNetworks(words, errors=[Fault(pointer, words)])


def detach(port_id: UUID) -> None:
    """A machine has let go of a NIC: so does its port, which goes if it was made for it."""
    held = Port.objects.select_for_update().filter(pk=port_id, holder_type=HOLDER)
    ports.let_go(list(held), SYSTEM)


def limit(flavor: Flavor) -> None:
    """The NICs of all instances of a flavor pass as much as it says from now on."""
    ports.limit(
        holder_type=HOLDER, holders=list(flavor.instances.values_list("pk", flat=True)), mbps=flavor.network_mbps
    )


def follow_flavor(instance: Instance) -> None:
    """Limit its NICs as its new flavor says."""
    ports.limit(holder_type=HOLDER, holders=[instance.pk], mbps=instance.flavor.network_mbps)


def alike(instance: Instance) -> tuple[list[Nic], list[SecurityGroup]]:
    """NICs on the same networks as an instance's, and its security groups."""
    nics = [Nic(port.network, gateway=port.gateway) for port in ports.held_by(HOLDER, instance.pk)]
    return nics, list(SecurityGroup.objects.filter(ports__in=_held(instance)).distinct())


def kept(nics: Sequence[Nic] | None, groups: Sequence[SecurityGroup] | None) -> dict[str, Any]:
    """What was asked for, as it is kept with the instance, for a launch that is tried again."""
    return {
        "nics": None
        if nics is None
        else [
            {
                "network": str(nic.network.pk) if nic.network else None,
                "address": nic.address,
                "port": str(nic.port.pk) if nic.port else None,
                "gateway": nic.gateway,
            }
            for nic in nics
        ],
        "security_groups": None if groups is None else [str(group.pk) for group in groups],
    }


def plug_again(instance: Instance, actor: Actor) -> None:
    """Before a start: a launch that failed gets its ports anew, an instance from before there were networks its first.

    The latter starts without one where the quota has none left. Raises UnfitNetworks when a network or port that was
    asked for is not there any more.
    """
    if _held(instance).exists():
        return
    if instance.failed_at:
        plug(instance, actor, *_asked(instance))
    elif instance.host and hosting.carries(instance.host) and instance.seen == Power.STOPPED and actor != SYSTEM:
        try:
            plug(instance, actor, None)
        except OverQuota:
            return


def _asked(instance: Instance) -> tuple[list[Nic] | None, list[SecurityGroup] | None]:
    """What was asked for at the launch."""
    asked = instance.network_wish or {"nics": None, "security_groups": None}
    nics, groups = None, None
    if asked["nics"] is not None:
        networks = Network.objects.in_bulk([UUID(nic["network"]) for nic in asked["nics"] if nic["network"]])
        there = Port.objects.in_bulk([UUID(nic["port"]) for nic in asked["nics"] if nic["port"]])
        nics = [
            Nic(networks.get(UUID(nic["network"])) if nic["network"] else None, nic["address"],
                there.get(UUID(nic["port"])) if nic["port"] else None, bool(nic.get("gateway")))
            for nic in asked["nics"]
        ]  # fmt: skip
        if any(nic.network is None and nic.port is None for nic in nics):
            raise UnfitNetworks(
                "A network or a port that it was launched with is not there any more. Launch a new one."
            )
    if asked["security_groups"] is not None:
        groups = list(SecurityGroup.objects.filter(pk__in=asked["security_groups"]))
    return nics, groups


def connect(instance: Instance) -> Wait | None:
    """Plug it in where it is placed. What to wait for before its machine may start; None when there is nothing.

    Raises Refused when its host cannot make one of its networks.
    """
    assert instance.host is not None
    if not hosting.carries(instance.host):
        return None
    ports.bind(holder_type=HOLDER, holder_id=instance.pk, host=instance.host)
    # Locked, so that a report that comes in meanwhile finds this wait.
    rows = NetworkOnHost.objects.filter(network__in=_held(instance).values("network"), host=instance.host)
    waiting = [row for row in rows.select_for_update(of=("self",)).order_by("pk") if not row.is_true]
    if broken := next((row for row in waiting if row.has_been_seen(BROKEN)), None):
        raise Refused(f"Its host cannot make its network: {broken.seen_problem}")
    if not waiting:
        return None
    topics = tuple(Topic(hosting.NETWORK, row.pk) for row in waiting)
    return Wait(LOOK_AGAIN_SECONDS, because="waiting for the host to make its network", on=topics)


def waits_on_its_host(instance: Instance) -> bool:
    """Whether its machine may be ordered at the same time as its networks."""
    return hosting.awaits(instance.host)


def neighbours(instance: Instance) -> Neighbours | None:
    """None while it has no neighbours on any host that carries networks. They may be on their way there still."""
    found = [host for host in _hosts_beside.rows(instance.pk) if hosting.carries(host)]
    return Neighbours(tuple(host.pk for host in found), all(map(hosting.vtep, found))) if found else None


@Prepared
def _hosts_beside(instance_id: Any) -> "QuerySet[Host]":
    """The hosts of other instances that are on an instance's networks."""
    own = Port.objects.filter(holder_type=HOLDER, holder_id=instance_id).values("network")
    beside = Port.objects.filter(network__in=own, holder_type=HOLDER).exclude(holder_id=instance_id)
    others = Instance.objects.filter(pk__in=beside.values("holder_id"), machine__isnull=False)
    return Host.objects.filter(pk__in=others.values("machine__host")).only("pk", "capabilities")


def nics(instance: Instance, host: Host, *, leaving: str | None = None) -> list[dict[str, Any]]:
    """For the spec of its machine on a host, but for the port that is `leaving`. Empty: it keeps the emulator's own
    user network."""
    held = ports.held_by(HOLDER, instance.pk)
    return [specs.nic(port) for port in held if port.host_id == host.pk and str(port.pk) != leaving]


def release(instance: Instance) -> None:
    """Its machine is gone: let its ports go."""
    ports.release(holder_type=HOLDER, holder_id=instance.pk, actor=SYSTEM)


def follow(instance: Instance) -> None:
    """It is on another host: so are its ports, where that host carries networks."""
    host = instance.host if hosting.carries(instance.host) else None
    ports.bind(holder_type=HOLDER, holder_id=instance.pk, host=host)


@transaction.atomic
def put_right(instance_id: UUID) -> None:
    """Bind its ports to the host that it is on; let them go when it is not there."""
    instance = Instance.objects.filter(pk=instance_id).select_related("machine__host").first()
    if instance is None:
        ports.release(holder_type=HOLDER, holder_id=instance_id, actor=SYSTEM)
    else:
        ports.bind(holder_type=HOLDER, holder_id=instance_id, host=instance.host)


def rename(instance: Instance) -> None:
    """Its neighbours know it by another name now."""
    ports.rename_holder(holder_type=HOLDER, holder_id=instance.pk, name=instance.name)


def _held(instance: Instance) -> "QuerySet[Port]":
    return Port.objects.filter(holder_type=HOLDER, holder_id=instance.pk)


def with_addresses(instances: "QuerySet[Any]") -> "QuerySet[Any]":
    """Annotate `addresses`, `group_names` and `is_unplugged` (it has ports, and its host carries no networks)."""
    own = Port.objects.filter(holder_type=HOLDER, holder_id=OuterRef("pk"))
    plugged = Address.objects.filter(port__holder_type=HOLDER, port__holder_id=OuterRef("pk"), port__host__isnull=False)
    address = JSONObject(
        address=Func(F("address"), function="host", output_field=CharField()),
        family=Func(F("address"), function="family", output_field=IntegerField()),
        network=JSONObject(id="port__network_id", name="port__network__name"),
        port=JSONObject(id="port_id", name="port__name"),
        floating_ip=Func(F("floating_ips__address"), function="host", output_field=CharField()),
    )
    groups = PortSecurityGroup.objects.filter(port__holder_type=HOLDER, port__holder_id=OuterRef("pk"))
    annotated: QuerySet[Any] = instances.annotate(
        addresses=ArraySubquery(plugged.order_by("port__holder_slot", "pk").values(json=address)),
        group_names=ArraySubquery(groups.order_by("group__name").values("group__name").distinct()),
        is_unplugged=Case(
            When(Q(machine__host=None) | Q(machine__host__capabilities__network__networks=True), then=Value(False)),
            default=Exists(own.filter(host=None)),
        ),
    )
    return annotated
