"""How somebody reaches an instance by SSH: the command that works, and what is missing where none does."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db.models import Prefetch

from cloud.events.services import Actor
from compute.models import Instance, Power
from compute.networking import HOLDER
from network.default_routes import with_default_routes
from network.models import Address, FloatingIP, Port, PortForward, RouterOnHost
from network.models.security import TCP
from network.rules import SSH, lets_in
from network.services import floating_ips, port_forwards, ports, security_groups
from network.services.port_forwards import LOOPBACK
from network.status import READY, any_carries, of_way_in

MAX_NAME = 63  # characters
CLOSED = "Its security groups do not let SSH (TCP port 22) in."
NO_FORWARD = "No port outside leads to it yet."
NO_FLOATING_IP = "It has no floating IP."
NO_NETWORK = "It is on no network: use the console."
STILL = (Power.STOPPED, Power.PAUSED, Power.SUSPENDED)
NOT_CARRIED = "Its host carries no networks: use the console."


@dataclass(frozen=True)
class SshWay:
    """`command` is "" where nothing leads in from outside; `missing` is what has to be done before it works."""

    user: str
    command: str = ""
    note: str = ""  # from where the command works
    inside: str = ""  # the command for machines of its own networks
    missing: tuple[str, ...] = ()
    can_be_opened: bool = False  # whether `open_ssh` does it
    is_waiting: bool = False  # whether it comes by itself


def plugged(instance: Instance) -> list[Port]:
    """Its ports in their order, with all that pages say of them."""
    forwards = PortForward.objects.select_related("floating_ip").order_by("listen_port", "pk")
    own = Port.objects.filter(holder_type=HOLDER, holder_id=instance.pk).select_related("network")
    fetched = own.prefetch_related(
        "security_groups__rules",
        "network__on_hosts",
        Prefetch("addresses", with_default_routes(Address.objects.all())),
        Prefetch("addresses__floating_ips", FloatingIP.objects.order_by("name")),
        Prefetch("addresses__port_forwards", forwards),
    )
    return list(fetched.order_by("holder_slot"))


def ssh_way(instance: Instance, own: Sequence[Port]) -> SshWay:
    """The best way in by SSH, given the ports as `plugged` gives them."""
    user = instance.image.default_user
    if not any(port.addresses.all() for port in own):
        return SshWay(user, missing=(NO_NETWORK,))
    if instance.host_id and all(port.host_id is None for port in own):
        return SshWay(user, missing=(NOT_CARRIED,))
    inside = f"ssh {user}@{_addresses(own)[0]}"
    still = (f"It is {instance.seen}.",) if instance.seen in STILL else ()
    leading = [(port, *one) for port in own for one in _from_outside(user, port)]
    if leading:
        port, ident, command, note = next((one for one in leading if _is_open(one[0])), leading[0])
        closed = () if _is_open(port) else (CLOSED,)
        routers = RouterOnHost.objects.filter(router__project=port.project_id)
        status = of_way_in(ident, port, routers, carried=any_carries())
        waits = () if status == READY else (status.reason,)
        is_coming = bool(waits) and port.host_id is not None
        return SshWay(user, command, note, inside, (*still, *closed, *waits), bool(closed), is_coming)
    no_way = NO_FORWARD if settings.PUBLISH_ON_LOOPBACK else NO_FLOATING_IP
    missing = (no_way,) if _is_open(_first(own)) else (no_way, CLOSED)
    return SshWay(user, inside=inside, missing=missing, can_be_opened=True)


def _first(own: Sequence[Port]) -> Port:
    """The one that SSH is opened for: the first with an address."""
    return next(port for port in own if port.addresses.all())


def _addresses(own: Sequence[Port]) -> list[str]:
    """IPv4 first: everybody has it."""
    return sorted((one.address for port in own for one in port.addresses.all()), key=lambda text: ":" in text)


def _from_outside(user: str, port: Port) -> list[tuple[UUID, str, str]]:
    """What leads to its SSH: the id of what leads, the command, and from where it works."""
    addresses = port.addresses.all()
    found = [(one.pk, f"ssh {user}@{one.address}", "") for address in addresses for one in address.floating_ips.all()]
    for address in addresses:
        for one in address.port_forwards.all():
            if one.protocol == "tcp" and one.target_port == SSH:
                listens = one.floating_ip.address if one.floating_ip else LOOPBACK
                note = "" if one.floating_ip else "On the computer that this cloud runs on."
                found.append((one.pk, f"ssh -p {one.listen_port} {user}@{listens}", note))
    return found


def _is_open(port: Port) -> bool:
    return any(lets_in(group, TCP, SSH) for group in port.security_groups.all())


def open_ssh(*, instance: Instance, actor: Actor) -> None:
    """Do what is missing: let SSH in to its first port, and lead a port of 127.0.0.1 or a floating IP to it.

    Done already, it changes nothing. Raises what making these raises.
    """
    own = plugged(instance)
    way = ssh_way(instance, own)
    if not way.can_be_opened:
        return
    port = next((one for one in own if _from_outside(way.user, one)), None) or _first(own)
    if not _is_open(port):
        opening = security_groups.opening_ssh(project=instance.project, actor=actor)
        ports.update(port=port, actor=actor, security_groups=[*port.security_groups.all(), opening])
    if way.command:
        return
    if settings.PUBLISH_ON_LOOPBACK:
        name = f"{instance.name[: MAX_NAME - 4]}-ssh"
        is_taken = PortForward.objects.filter(project=instance.project_id, name=name).exists()
        port_forwards.create(port=port, actor=actor, target_port=SSH, name="" if is_taken else name)
    else:
        floating_ips.create(project=instance.project, actor=actor, port=port)
