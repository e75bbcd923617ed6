"""Address pools: addresses outside of the cloud, which admins of the cloud offer."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cloud.events.services import Actor, record
from cloud.problems import Fault, Problem, explain_constraint
from network import addressing
from network.addressing import Range
from network.models import AddressPool
from network.services.changes import change
from network.services.uses import refuse_if_used, use

explain_constraint("address_pools_do_not_overlap", "Another address pool has some of these addresses.", pointer="/cidr")


class UnfitPool(Problem):
    """The parts of a pool do not fit together; `errors` names every fault."""

    title: ClassVar[str] = "The address pool cannot be like this"


def create(
    *,
    actor: Actor,
    name: str,
    cidr: str,
    labels: dict[str, str] | None = None,
    allocation_ranges: Sequence[Range] | None = None,
) -> AddressPool:
    """Offer addresses: all that are usable in a range, or some of it. Raises UnfitPool, Conflict."""
    _require_fit({"cidr": cidr, "allocation_ranges": allocation_ranges})
    ranges = addressing.default_ranges(cidr, None) if allocation_ranges is None else list(allocation_ranges)
    pool = AddressPool.objects.create(name=name, labels=labels or {}, cidr=cidr, allocation_ranges=ranges)
    record("network.address_pool.create", pool, actor=actor, after={"name": name, "cidr": cidr})
    return pool


def update(*, pool: AddressPool, actor: Actor, changes: Mapping[str, Any]) -> AddressPool:
    """Change name, labels, or what is given out from now on. Raises UnfitPool."""
    _require_fit({"cidr": pool.cidr, **changes})
    pool, before = change(pool, changes)
    record("network.address_pool.update", pool, actor=actor, before=before, after=changes)
    return pool


def _require_fit(plan: Mapping[str, Any]) -> None:
    faults: list[Fault] = list(addressing.faults_of_plan({**plan, "gateway": None}))
    if faults:
        raise UnfitPool(" ".join(fault.message for fault in faults), errors=faults)


def delete(*, pool: AddressPool, actor: Actor) -> None:
    """Offer it no more. Raises InUse while projects hold addresses of it."""
    pool = AddressPool.objects.select_for_update().get(pk=pool.pk)
    held = pool.floating_ips.select_related("project").order_by("project__name")
    refuse_if_used(pool, [use("project", floating.project) for floating in held])
    record("network.address_pool.delete", pool, actor=actor, before={"name": pool.name, "cidr": pool.cidr})
    pool.delete()
