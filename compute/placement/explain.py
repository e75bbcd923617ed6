"""Why an instance is placed where it is, or nowhere: every rule, evaluated on every host, in words."""

from dataclasses import dataclass
from typing import Any

from django.db import connection

from compute.models import Flavor
from compute.placement.rules import (
    CAPACITY,
    TOO_LARGE,
    BesideVolumes,
    Capacity,
    Chosen,
    KeepsVolumes,
    MadeOf,
    Runs,
    Virtualised,
    Wish,
    parameters,
    rules_for,
)
from storage import hardware

MAX_HOSTS_SHOWN = 200
LASTING = (Runs, Virtualised, Chosen, BesideVolumes, KeepsVolumes, MadeOf)  # true of a host however full it is
HOSTS = "hosts_host h JOIN hosts_hostpulse p ON p.host_id = h.id"


@dataclass(frozen=True)
class Explanation:
    """How many hosts fit, and what the others lack. `hosts` names them: for admins of the cloud only."""

    total: int
    fitting: int
    summary: str
    lacking: dict[str, int]  # rule → hosts that fail it
    nearest_flavor: str | None
    hosts: list[dict[str, Any]]

    def for_tenant(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "fitting": self.fitting,
            "summary": self.summary,
            "lacking": self.lacking,
            "nearest_flavor": self.nearest_flavor,
        }

    def for_admin(self) -> dict[str, Any]:
        return {**self.for_tenant(), "hosts": self.hosts}


def explain(wish: Wish) -> Explanation:
    """Evaluate every rule on every host, in two statements: the sums, and the table."""
    sums = _sums(wish)
    total, fitting = sums["total"], sums["fitting"]
    counts = {rule.name: sums[f"lacking_{index}"] for index, rule in enumerate(rules_for(wish))}
    nearest = None if fitting else _nearest_flavor(wish)
    return Explanation(
        total=total,
        fitting=fitting,
        summary=_summary(wish, sums, nearest),
        lacking={name: count for name, count in counts.items() if count},
        nearest_flavor=nearest,
        hosts=_table(wish),
    )


def fits_an_empty_host(wish: Wish) -> bool:
    """Whether any host, if it were empty and in service, could take the instance at all."""
    lasting = " AND ".join(rule.condition for rule in rules_for(wish) if isinstance(rule, LASTING))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT EXISTS (SELECT 1 FROM hosts_host h WHERE {lasting}
                AND floor(h.vcpus * h.vcpu_overcommit) >= %(vcpus)s AND h.memory_mib >= %(memory_mib)s
                AND h.disk_gib >= %(disk_gib)s)
            """,
            parameters(wish),
        )
        return bool(cursor.fetchone()[0])


def _sums(wish: Wish) -> dict[str, Any]:
    rules = rules_for(wish)
    everything = " AND ".join(rule.condition for rule in rules)
    columns = ["count(*) AS total", f"count(*) FILTER (WHERE {everything}) AS fitting"]
    columns += [f"count(*) FILTER (WHERE NOT {rule.condition}) AS lacking_{i}" for i, rule in enumerate(rules)]
    columns += [
        # A host that sells less than it did has less than nothing left.
        f"greatest(max(h.free_{rule.column}) FILTER (WHERE h.enabled), 0) AS largest_{rule.column}"
        for rule in CAPACITY
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM {HOSTS}", parameters(wish))
        return dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True))


def _summary(wish: Wish, sums: dict[str, Any], nearest: str | None) -> str:
    total, fitting = sums["total"], sums["fitting"]
    if not total:
        return "There are no hosts yet. An admin of the cloud adds one."
    said = {
        "runs": " or ".join(wish.runs) or TOO_LARGE,
        "parts_said": ", ".join(hardware.name(one) for one in wish.parts),
    }
    facts = {**sums, **parameters(wish), **said}
    parts = [
        rule.lacking.format(count=sums[f"lacking_{index}"], **facts)
        for index, rule in enumerate(rules_for(wish))
        if sums[f"lacking_{index}"]
    ]
    words = f"{fitting} of {total} host{'s' if total > 1 else ''} fit{'s' if fitting == 1 else ''}"
    if parts:
        words += ": " + ", ".join(parts)
    return f"{words}. The flavor {nearest} would fit." if nearest else f"{words}."


def _nearest_flavor(wish: Wish) -> str | None:
    """The largest enabled flavor, no bigger in anything, that some host could take now."""
    others = " AND ".join(rule.condition for rule in rules_for(wish) if not isinstance(rule, Capacity))
    flavors = Flavor.objects.filter(
        enabled=True, vcpus__lte=wish.vcpus, memory_mib__lte=wish.memory_mib, disk_gib__lte=wish.disk_gib
    )
    for flavor in flavors.order_by("-memory_mib", "-vcpus", "-disk_gib", "name"):
        with connection.cursor() as cursor:
            cursor.execute(
                f"""
                SELECT 1 FROM {HOSTS} WHERE {others} AND h.free_vcpus >= %(vcpus)s
                    AND h.free_memory_mib >= %(memory_mib)s AND h.free_disk_gib >= %(disk_gib)s LIMIT 1
                """,
                {
                    **parameters(wish),
                    "vcpus": flavor.vcpus,
                    "memory_mib": flavor.memory_mib,
                    "disk_gib": flavor.disk_gib + wish.volumes.gib,
                },
            )
            if cursor.fetchone():
                return flavor.name
    return None


def _table(wish: Wish) -> list[dict[str, Any]]:
    columns = ["h.name", "h.id::text"]
    for rule in rules_for(wish):
        columns += [rule.condition, f"({rule.have})::text"]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(columns)} FROM {HOSTS} ORDER BY h.name LIMIT {MAX_HOSTS_SHOWN}",
            parameters(wish),
        )
        rows = cursor.fetchall()
    return [
        {
            "host": {"id": host_id, "name": name},
            "fits": all(checks[::2]),
            "checks": [
                {"rule": rule.name, "ok": checks[2 * i], "need": rule.need(wish), "have": checks[2 * i + 1]}
                for i, rule in enumerate(rules_for(wish))
            ],
        }
        for name, host_id, *checks in rows
    ]
