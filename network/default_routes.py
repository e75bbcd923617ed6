"""Which NIC of a machine has its default route: one in each family, however many of its subnets have a gateway.

It is the NIC that was chosen (`Port.gateway`), otherwise the first one that has a gateway. The guest is told no gateway
by the others, only what is on their networks and their subnets' own routes.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, Exists, ExpressionWrapper, F, Func, IntegerField, OuterRef, Q, QuerySet

from network.models import Address, Port


def with_default_routes(addresses: "QuerySet[Any]") -> "QuerySet[Any]":
    """Addresses in the order in which they were given, with their `family`, `leads` (its machine has its default route
    by the subnet of this one) and `is_aside` (it could, and another NIC has it)."""
    family = Func(F("address"), function="family", output_field=IntegerField())
    rivals = Address.objects.annotate(family=family).filter(
        Q(port__gateway=True) | Q(port__holder_slot__lt=OuterRef("port__holder_slot")),
        port__holder_type=OuterRef("port__holder_type"),
        port__holder_id=OuterRef("port__holder_id"),
        subnet__gateway__isnull=False,
        family=OuterRef("family"),
    )
    could = Q(subnet__gateway__isnull=False)
    is_chosen, has_rival = Q(port__gateway=True), Q(Exists(rivals.exclude(port=OuterRef("port_id"))))
    annotated: QuerySet[Any] = addresses.annotate(family=family).annotate(
        leads=_flag(could & (is_chosen | ~has_rival)),
        is_aside=_flag(could & ~is_chosen & has_rival),
    )
    return annotated.order_by("pk")


def _flag(condition: Q) -> ExpressionWrapper:
    return ExpressionWrapper(condition, output_field=BooleanField())


def networks_beside(ports: Collection[Port]) -> set[UUID]:
    """The networks of the other NICs of the same machines, as far as they are on hosts: what their guests are told of
    gateways changes with these ports."""
    machines = {port.holder_id for port in ports if port.holder_id}
    beside = Port.objects.filter(holder_id__in=machines, host__isnull=False).exclude(pk__in=[port.pk for port in ports])
    return set(beside.values_list("network_id", flat=True))
