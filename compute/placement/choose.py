"""Choosing a host: one SQL statement over trigger-kept free capacity, flat from 100 to 100 000 hosts."""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any
from uuid import UUID

from django.conf import settings

from cloud.hosts.orders import first_generation
from cloud.queries import Statement
from cloud.saving import insert, update
from compute import volumes
from compute.models import Instance, Machine
from compute.placement.rules import Rule, Wish, parameters, preferred

ORDER = {
    "pack": "h.free_vcpus, h.free_memory_mib, h.id",  # best fit: 1.055 × the lower bound on Azure's trace
    "spread": "h.free_vcpus DESC, h.free_memory_mib DESC, h.id",
}


@dataclass(frozen=True)
class Decision:
    """Where an instance goes, or that nothing fits. Kept with the instance as JSON."""

    host_id: UUID | None
    hypervisor: str = ""
    accelerator: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "host": str(self.host_id) if self.host_id else None,
            "hypervisor": self.hypervisor,
            "accelerator": self.accelerator,
            "strategy": settings.PLACEMENT_STRATEGY,
        }


def choose(instance: Instance, *, allocate: bool = True, wish: Wish | None = None) -> Decision:
    """Find the best host, hardware virtualisation before emulation, and allocate there in the same statement.

    `wish`: what it needs, if that is not what its row says.
    With `allocate=False` (a dry run) no host is locked. A host that others hold is first stepped over; only when that
    finds nothing is it waited for, because only that proves that nothing fits.
    """
    wish = wish or Wish.of(instance)
    accelerators = ("kvm", "") if settings.ALLOW_EMULATION else ("kvm",)
    ways = [(run, accelerator) for run in wish.runs for accelerator in accelerators]
    if not ways:  # no hypervisor takes a machine of this size
        return Decision(None)
    facts = {**parameters(wish), "instance": instance.pk}
    facts |= {f"way_{rank}": f"{run}/{accelerator}".rstrip("/") for rank, (run, accelerator) in enumerate(ways)}
    locks = ("FOR UPDATE OF h SKIP LOCKED", "FOR UPDATE OF h") if allocate else ("",)
    for rules, lock in product(preferred(wish), locks):
        statement = _statement(
            tuple(accelerator for _, accelerator in ways), ORDER[settings.PLACEMENT_STRATEGY], lock, rules
        )
        if found := statement.rows(facts):
            host_id, (run, accelerator) = found[0][0], ways[found[0][1]]
            return Decision(host_id, hypervisor=run.split("/")[0], accelerator=accelerator or "tcg")
    return Decision(None)


@cache
def _statement(accelerators: tuple[str, ...], order: str, lock: str, rules: tuple[Rule, ...]) -> Statement:
    """Finds (host, rank of the way to run there): the ways by rank, each only if none before found a host.

    The server keeps one plan for all wishes (`plan_cache_mode` in the settings): the walk along the index of free
    capacity that is the strategy's order.
    """
    conditions = " AND ".join(rule.condition for rule in rules)
    ways = [
        f"""
        way_{rank} AS (
            SELECT h.id, {rank} AS rank FROM hosts_host h JOIN hosts_hostpulse p ON p.host_id = h.id
            WHERE {conditions} AND coalesce(h.offers @> ARRAY[%(way_{rank})s]::varchar[], false)
                {"AND h.accelerated" if accelerator == "kvm" else ""}
                {"".join(f" AND NOT EXISTS (SELECT FROM way_{better})" for better in range(rank))}
            ORDER BY {order} LIMIT 1 {lock}
        )"""
        for rank, accelerator in enumerate(accelerators)
    ]
    found = " UNION ALL ".join(f"SELECT id, rank FROM way_{rank}" for rank in range(len(ways)))
    allocated = """,
        allocated AS (
            INSERT INTO hosts_allocation
                (id, resource_type, resource_id, host_id, vcpus, memory_mib, disk_gib, created_at)
            SELECT gen_random_uuid(), 'instance', %(instance)s::uuid, id,
                %(vcpus)s::int, %(memory_mib)s::int, %(own_disk_gib)s::int, now() FROM chosen
        )"""
    sql = f"WITH {', '.join(ways)}, chosen AS ({found}){allocated if lock else ''} SELECT id, rank FROM chosen"
    return Statement(sql, table="hosts_host")


def place(instance: Instance, *, allocate: bool = True) -> Decision:
    """Place a locked instance and its volumes, or say that nothing fits; keep the decision with it."""
    volumes.lock(instance)
    decision = choose(instance, allocate=allocate)
    was_placed = bool(instance.placement and instance.placement["host"])  # then its host may remember it
    instance.placement = decision.as_json()
    if decision.host_id:
        instance.machine = Machine(
            instance=instance,
            host_id=decision.host_id,
            hypervisor=decision.hypervisor,
            generation=first_generation(decision.host_id, "instance", instance.pk) if was_placed else 1,
        )
        insert(instance.machine)
        update(instance, "placement", "machine")
        if allocate:
            volumes.place(instance)
    else:
        update(instance, "placement")
    return decision
