"""Where what is on a host would find room without it: really placed, one after the other, and taken back again."""

from dataclasses import dataclass
from uuid import UUID

from cloud import transactions
from cloud.hosts.models import Allocation, Host
from compute.models import Instance
from compute.placement.choose import choose
from compute.placement.explain import explain
from compute.placement.rules import Wish

MAX_TRIED = 200  # instances that are tried: it takes about a millisecond each


@dataclass(frozen=True)
class Move:
    """`host` is the name of the one that has room; where it is empty, `why` says what stands in the way."""

    instance: Instance
    host: str
    why: str = ""


def simulate(host_id: UUID) -> list[Move]:
    """The moves of up to MAX_TRIED of a host's instances, the largest first, as they would compete for room."""
    found: list[Move] = transactions.run(lambda: _move_all(host_id), dry=True)
    return found


def _move_all(host_id: UUID) -> list[Move]:
    placed = Instance.objects.filter(machine__host_id=host_id, trashed_at=None).select_related("image", "project")
    instances = list(placed.order_by("-memory_mib", "-vcpus", "name", "pk")[:MAX_TRIED])
    Host.objects.filter(pk=host_id).update(enabled=False)
    Allocation.of("instance", *(instance.pk for instance in instances)).filter(host_id=host_id).delete()
    decisions = [(instance, choose(instance)) for instance in instances]
    names = dict(Host.objects.filter(pk__in={each.host_id for _, each in decisions}).values_list("pk", "name"))
    reasons: dict[Wish, str] = {}  # alike for all that wish alike
    moves = []
    for instance, decision in decisions:
        if decision.host_id is None:
            wish = Wish.of(instance)
            if wish not in reasons:
                reasons[wish] = explain(wish).summary
            moves.append(Move(instance, "", reasons[wish]))
        else:
            moves.append(Move(instance, names[decision.host_id]))
    return moves
