"""What may be done with flavors: sizes of instances that admins of the cloud offer."""

from decimal import Decimal
from typing import Any, TypedDict

from cloud.events.services import Actor, record
from cloud.problems import explain_constraint
from compute import networking
from compute.models import Flavor

explain_constraint("flavor_has_64_mib", "A flavor has at least 64 MiB of memory.", pointer="/memory_mib")


class Size(TypedDict, total=False):
    name: str
    labels: dict[str, str]
    vcpus: int
    memory_mib: int
    disk_gib: int
    network_mbps: int | None
    price_per_hour: Decimal
    enabled: bool


def create(*, actor: Actor, size: Size) -> Flavor:
    """Offer a new size."""
    flavor = Flavor.objects.create(**size)
    record("compute.flavor.create", flavor, actor=actor, after=size)
    return flavor


def update(*, flavor: Flavor, actor: Actor, changes: Size) -> Flavor:
    """Change what is offered from now on. Instances keep the size that they have, but not the limit of their NICs."""
    flavor = Flavor.objects.select_for_update().get(pk=flavor.pk)
    before: dict[str, Any] = {field: getattr(flavor, field) for field in changes}
    for field, value in changes.items():
        setattr(flavor, field, value)
    flavor.save(update_fields=list(changes) or None)
    if changes.get("network_mbps", flavor.network_mbps) != before.get("network_mbps", flavor.network_mbps):
        networking.limit(flavor)
    record("compute.flavor.update", flavor, actor=actor, before=before, after=changes)
    return flavor


def delete(*, flavor: Flavor, actor: Actor) -> None:
    """Offer it no more. Refused while instances are of it: disabling it hides it from new ones."""
    record("compute.flavor.delete", flavor, actor=actor, before={"name": flavor.name})
    flavor.delete()
