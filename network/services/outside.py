"""What leads to a port from outside, seen from the port: who uses it, and how it is let go."""

from collections.abc import Iterable

from django.db.models import QuerySet

from cloud.events.services import Actor, record
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
    disassociate(FloatingIP.objects.filter(target__in=addresses).select_related("target").order_by("pk"), actor)
    for forward in PortForward.objects.filter(target__in=addresses).order_by("pk"):
        remove_forward(forward, actor)


def disassociate(floating_ips: Iterable[FloatingIP], actor: Actor) -> None:
    for floating in floating_ips:
        before = {"target": str(floating.target) if floating.target else None}
        floating.target = None
        floating.save(update_fields=["target"])
        record("network.floating_ip.disassociate", floating, actor=actor, before=before, after={"target": None})


def remove_forward(forward: PortForward, actor: Actor) -> None:
    before = {"name": forward.name, "listen_port": forward.listen_port}
    record("network.port_forward.delete", forward, actor=actor, before=before)
    forward.delete()
