"""Choosing a host. Choosing is one SQL statement over trigger-kept free capacity, flat from 100 to 100 000 hosts.

A rule is one class that serves two masters from one definition: its SQL condition chooses, and the same condition,
evaluated on every host beside what the host has, explains. Explaining runs when nothing fits, or when somebody asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings
from django.db import connection
from psycopg import Cursor

from compute.hypervisors import KINDS
from compute.models import Instance


@dataclass(frozen=True)
class Wish:
    """What an instance needs of a host. `runs` are the ways to run it, best first, e.g. ("qemu/x86_64",)."""

    vcpus: int
    memory_mib: int
    disk_gib: int
    runs: tuple[str, ...]
    host_id: UUID | None = None

    @classmethod
    def of(cls, instance: Instance) -> "Wish":
        hypervisors = [instance.hypervisor_wish] if instance.hypervisor_wish else instance.image.hypervisors
        size = {"vcpus": instance.vcpus, "memory_mib": instance.memory_mib, "disk_gib": instance.disk_gib}
        wish = cls.of_size(**size, hypervisors=hypervisors, architecture=instance.image.architecture)
        return replace(wish, host_id=instance.host_wish_id)

    @classmethod
    def of_size(
        cls, *, vcpus: int, memory_mib: int, disk_gib: int, hypervisors: Iterable[str], architecture: str
    ) -> "Wish":
        """With the ways to run it that take its size."""
        able = [name for name in hypervisors if KINDS[name].takes(vcpus=vcpus, memory_mib=memory_mib)]
        return cls(vcpus, memory_mib, disk_gib, tuple(f"{name}/{architecture}" for name in able))


class Rule(Protocol):
    """`condition` and `have` are SQL over hosts_host h and hosts_hostpulse p; `%(…)s` are the wish's parameters."""

    name: str
    condition: str
    have: str
    lacking: str  # "{count} …", for the sums that tenants may see

    def need(self, wish: Wish) -> str: ...


class Enabled:
    name = "in service"
    condition = "(h.enabled AND h.quarantined = '')"
    have = "CASE WHEN h.quarantined <> '' THEN h.quarantined WHEN h.enabled THEN 'in service' ELSE 'drained' END"
    lacking = "{count} not in service"

    def need(self, wish: Wish) -> str:
        return "in service"


class Reachable:
    name = "reachable"
    condition = "(p.seen_at > now() - make_interval(secs => %(unreachable_after)s::float8))"
    have = "'heard ' || extract(epoch FROM now() - p.seen_at)::bigint || ' s ago'"
    lacking = "{count} unreachable"

    def need(self, wish: Wish) -> str:
        return f"heard within {settings.UNREACHABLE_AFTER_SECONDS} s"


TOO_LARGE = "a machine of this size"


class Runs:
    name = "hypervisor"
    # The planner takes `&&` for rare, and would rather sort the few hosts that it expects than walk an index; it
    # cannot see into coalesce.
    condition = "coalesce(h.runs && %(runs)s::varchar[], false)"
    have = "coalesce(nullif(array_to_string(h.runs, ', '), ''), 'nothing')"
    lacking = "{count} cannot run {runs}"

    def need(self, wish: Wish) -> str:
        return " or ".join(wish.runs) or TOO_LARGE


class Virtualised:
    """Emulation is no boundary between tenants: unless it is allowed, a host needs KVM."""

    name = "hardware virtualisation"
    condition = "(%(emulation)s::bool OR h.has_kvm)"
    have = "CASE WHEN h.has_kvm THEN 'KVM' ELSE 'emulation' END"
    lacking = "{count} without KVM"

    def need(self, wish: Wish) -> str:
        return "KVM or emulation" if settings.ALLOW_EMULATION else "KVM"


class Chosen:
    name = "host asked for"
    condition = "(h.id = %(host_id)s::uuid)"
    have = "h.name"
    lacking = "{count} not the host asked for"

    def need(self, wish: Wish) -> str:
        return str(wish.host_id)


class Capacity:
    """Enough of one resource is free."""

    def __init__(self, column: str, name: str, unit: str) -> None:
        self.column, self.name, self.unit = column, name, unit
        self.condition = f"(h.free_{column} >= %({column})s::int)"
        self.have = f"h.free_{column} || ' {unit}'"
        self.lacking = f"{{count}} lack {name} (largest free block {{largest_{column}}} {unit}, asked {{{column}}})"

    def need(self, wish: Wish) -> str:
        return f"{getattr(wish, self.column)} {self.unit}"


CAPACITY = (
    Capacity("vcpus", "vCPUs", "vCPU"),
    Capacity("memory_mib", "memory", "MiB"),
    Capacity("disk_gib", "disk", "GiB"),
)
RULES: tuple[Rule, ...] = (Enabled(), Reachable(), Runs(), Virtualised(), Chosen(), *CAPACITY)

ORDER = {
    "pack": "h.free_vcpus, h.free_memory_mib, h.id",  # best fit: 1.055 × the lower bound on Azure's trace
    "spread": "h.free_vcpus DESC, h.free_memory_mib DESC, h.id",
}


def rules_for(wish: Wish) -> tuple[Rule, ...]:
    return tuple(rule for rule in RULES if wish.host_id or not isinstance(rule, Chosen))


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


def parameters(wish: Wish) -> dict[str, Any]:
    return {
        "vcpus": wish.vcpus,
        "memory_mib": wish.memory_mib,
        "disk_gib": wish.disk_gib,
        "runs": list(wish.runs),
        "host_id": wish.host_id,
        "emulation": settings.ALLOW_EMULATION,
        "unreachable_after": settings.UNREACHABLE_AFTER_SECONDS,
    }


def choose(instance: Instance, *, allocate: bool = True) -> Decision:
    """Find the best host, hardware virtualisation before emulation, and allocate there in the same statement.

    With `allocate=False` (a dry run) no host is locked. A host that others hold is first stepped over; only when that
    finds nothing is it waited for, because only that proves that nothing fits.
    """
    wish = Wish.of(instance)
    accelerators = ("kvm", "") if settings.ALLOW_EMULATION else ("kvm",)
    ways = [(run, accelerator) for run in wish.runs for accelerator in accelerators]
    if not ways:  # no hypervisor takes a machine of this size
        return Decision(None)
    facts = {**parameters(wish), "instance": instance.pk}
    facts |= {f"way_{rank}": f"{run}/{accelerator}".rstrip("/") for rank, (run, accelerator) in enumerate(ways)}
    for lock in ("FOR UPDATE OF h SKIP LOCKED", "FOR UPDATE OF h") if allocate else ("",):
        statement = _statement(
            tuple(accelerator for _, accelerator in ways), ORDER[settings.PLACEMENT_STRATEGY], lock, rules_for(wish)
        )
        connection.ensure_connection()
        with Cursor(connection.connection) as cursor:  # Django's own cursor prepares nothing
            row = cursor.execute(statement, facts, prepare=True).fetchone()
        if row:
            host_id, (run, accelerator) = row[0], ways[row[1]]
            return Decision(host_id, hypervisor=run.split("/")[0], accelerator=accelerator or "tcg")
    return Decision(None)


@cache
def _statement(accelerators: tuple[str, ...], order: str, lock: str, rules: tuple[Rule, ...]) -> str:
    """SQL that finds (host, rank of the way to run there): the ways by rank, each only if none before found a host.

    Planning it takes longer than running it, so the server keeps one plan for all wishes (`plan_cache_mode` in the
    settings): the walk along the index of free capacity that is the strategy's order.
    """
    conditions = " AND ".join(rule.condition for rule in rules)
    ways = [
        f"""
        way_{rank} AS (
            SELECT h.id, {rank} AS rank FROM hosts_host h JOIN hosts_hostpulse p ON p.host_id = h.id
            WHERE {conditions} AND coalesce(h.runs @> ARRAY[%(way_{rank})s]::varchar[], false)
                {"AND h.has_kvm" if accelerator == "kvm" else ""}
                {"".join(f" AND NOT EXISTS (SELECT FROM way_{better})" for better in range(rank))}
            ORDER BY {order} LIMIT 1 {lock}
        )"""
        for rank, accelerator in enumerate(accelerators)
    ]
    found = " UNION ALL ".join(f"SELECT id, rank FROM way_{rank}" for rank in range(len(ways)))
    allocated = """,
        allocated AS (
            INSERT INTO compute_allocation (id, instance_id, host_id, vcpus, memory_mib, disk_gib, created_at)
            SELECT %(instance)s::uuid, %(instance)s::uuid, id,
                %(vcpus)s::int, %(memory_mib)s::int, %(disk_gib)s::int, now() FROM chosen
        )"""
    return f"WITH {', '.join(ways)}, chosen AS ({found}){allocated if lock else ''} SELECT id, rank FROM chosen"


def place(instance: Instance, *, allocate: bool = True) -> Decision:
    """Place a locked instance, or say that nothing fits; keep the decision with it."""
    decision = choose(instance, allocate=allocate)
    instance.placement = decision.as_json()
    if decision.host_id:
        instance.host_id, instance.hypervisor = decision.host_id, decision.hypervisor
        instance.save(update_fields=["placement", "host", "hypervisor"])
    else:
        instance.save(update_fields=["placement"])
    return decision
