"""What leads to a port from outside, seen from the port: who uses it, and how it is let go."""

from collections.abc import Collection, Iterable
from uuid import UUID

from django.db.models import Q, QuerySet

from cloud.events.services import Actor, record
from network import hosting
from network.models import Address, FloatingIP, Port, PortForward
from network.services.uses import Use, use


def uses_of(port: Port) -> list[Use]:
    """The floating IPs and port forwards that lead to a port."""
    return uses_of_addresses(port.addresses.all())


def uses_of_addresses(addresses: "QuerySet[Address]") -> list[Use]:
    floating = FloatingIP.objects.filter(target__in=addresses).order_by("name")
    forwards = PortForward.objects.filter(target__in=addresses).order_by("name")
    return [*(use("floating_ip", one) for one in floating), *(use("port_forward", one) for one in forwards)]


def let_go(port: Port, actor: Actor) -> None:
    """Nothing leads to the port any more: floating IPs stay with their project, port forwards are deleted."""
    let_go_of(port.addresses.all(), actor)


def let_go_of(addresses: "QuerySet[Address]", actor: Actor) -> None:
    disassociate(FloatingIP.objects.filter(target__in=addresses).select_related("target__port").order_by("pk"), actor)
    for forward in PortForward.objects.filter(target__in=addresses).select_related("target__port").order_by("pk"):
        remove_forward(forward, actor)


def disassociate(floating_ips: Iterable[FloatingIP], actor: Actor) -> None:
    for floating in floating_ips:
        before = {"target": str(floating.target) if floating.target else None}
        old, floating.target = floating.target, None
        floating.save(update_fields=["target"])
        record("network.floating_ip.disassociate", floating, actor=actor, before=before, after={"target": None})
        if old:
            leads_elsewhere(floating.project_id, [old])


def remove_forward(forward: PortForward, actor: Actor) -> None:
    before = {"name": forward.name, "listen_port": forward.listen_port}
    record("network.port_forward.delete", forward, actor=actor, before=before)
    concerned = [forward.target, *(other.target for other in _siblings([forward.target.port_id]))]
    forward.delete()
    leads_elsewhere(forward.project_id, concerned)


def _siblings(ports: Collection[UUID]) -> "QuerySet[PortForward]":
    """The port forwards of floating IPs of which a port leads to one of these: all must lead to one host."""
    shared = PortForward.objects.filter(target__port__in=ports, floating_ip__isnull=False).values("floating_ip")
    return PortForward.objects.filter(floating_ip__in=shared).select_related("target__port")


def leads_elsewhere(project_id: UUID, targets: Iterable[Address]) -> None:
    """Something from outside leads to other addresses than before: these were or are among them."""
    on_hosts = [target.port for target in targets if target.port.host_id]
    hosting.changed(project_id, routers=_routers_at([port.pk for port in on_hosts]))


def routers_to(ports: Iterable[Port]) -> set[UUID]:
    """The routers by which something leads in to one of these ports."""
    own = Address.objects.filter(port__in=list(ports))
    led = own.filter(Q(floating_ips__isnull=False) | Q(port_forwards__isnull=False))
    reached = set(led.values_list("port_id", flat=True))
    return _routers_at(reached | {forward.target.port_id for forward in _siblings(reached)})


def _routers_at(ports: Collection[UUID]) -> set[UUID]:
    """The routers on the subnets of these ports."""
    if not ports:
        return set()
    subnets = Address.objects.filter(port__in=ports).values("subnet_id")
    legs = Port.objects.filter(holder_type=hosting.ROUTER, addresses__subnet__in=subnets, holder_id__isnull=False)
    return {holder for holder in legs.values_list("holder_id", flat=True) if holder}
