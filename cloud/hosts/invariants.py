"""What must always hold of hosts: nothing is on one that no row owns, and what is free is what is not placed."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from cloud.events.services import SYSTEM, record
from cloud.hosts import orders
from cloud.hosts.models import Allocation, Host
from cloud.hosts.resources import HostedResource, kind_of, kinds
from cloud.operations.invariants import Breach, invariant

# One line per thing on a host that is reachable, as its last heartbeat listed it.
INVENTORY = """
    SELECT p.host_id, p.seen_at, h.name AS host, item->>'type' AS type, (item->>'id')::uuid AS id,
        item->>'seen' AS seen, (item->>'generation')::bigint AS generation
    FROM hosts_hostpulse p JOIN hosts_host h ON h.id = p.host_id, jsonb_array_elements(p.inventory) item
    WHERE p.seen_at > now() - make_interval(secs => %(silence)s)
"""


def rows(statement: str, **facts: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement that may use `%(silence)s`, the seconds after which a host counts as unreachable."""
    with connection.cursor() as cursor:
        cursor.execute(statement, {"silence": settings.UNREACHABLE_AFTER_SECONDS, **facts})
        return list(cursor.fetchall())


@invariant("I3", "Everything on a host belongs to a resource of the cloud")
def everything_is_owned() -> Iterator[Breach]:
    present = {resource_type for (resource_type,) in rows(f"SELECT DISTINCT type FROM ({INVENTORY}) seen")}
    for resource_type in sorted(present):
        kind = kind_of(resource_type)
        for host_id, host, resource_id, seen, generation in rows(
            f"""
            SELECT s.host_id, s.host, s.id, s.seen, s.generation FROM ({INVENTORY}) s
            WHERE s.type = %(type)s AND s.seen <> 'gone' AND NOT {_has_row(kind, "s.id", "s.host_id")}
                AND NOT EXISTS (SELECT 1 FROM hosts_order o WHERE o.host_id = s.host_id AND o.resource_id = s.id
                    AND (o.answered_at IS NULL OR o.answered_at > s.seen_at))
            """,
            type=resource_type,
        ):
            repair = partial(_remove_unowned, host_id, resource_type, resource_id, generation)
            unit = kind.unit if kind and kind.unit else resource_type
            words = f"{host} holds a {unit} ({seen}) that belongs to no {resource_type}"
            yield Breach(words, str(resource_id), repair=repair)


def _has_row(kind: HostedResource | None, ident: str, host: str) -> str:
    """SQL: whether a row of this kind is that, on that host."""
    if kind is None:
        return "false"
    table = kind.model._meta.db_table
    return f"EXISTS (SELECT 1 FROM {table} r WHERE r.{kind.id_column} = {ident} AND r.host_id = {host})"


@transaction.atomic
def _remove_unowned(host_id: UUID, resource_type: str, resource_id: UUID, generation: int) -> None:
    host = Host.objects.get(pk=host_id)
    orders.post(host, resource_type, resource_id, "ensure_gone", generation + 1)
    record("hosts.host.remove_unowned", host, actor=SYSTEM, after={resource_type: str(resource_id)})


@invariant("I6", "A host has at most its capacity allocated, and its free capacity is right")
def capacity_is_the_sum() -> Iterator[Breach]:
    sums = {"vcpus": "floor(h.vcpus * h.vcpu_overcommit)::int", "memory_mib": "h.memory_mib", "disk_gib": "h.disk_gib"}
    for name, capacity in sums.items():
        for host_id, host, free, total, placed in rows(
            f"""
            SELECT h.id, h.name, h.free_{name}, {capacity}, coalesce(sum(a.{name}), 0)
            FROM hosts_host h LEFT JOIN hosts_allocation a ON a.host_id = h.id
            GROUP BY h.id HAVING h.free_{name} <> {capacity} - coalesce(sum(a.{name}), 0) OR h.free_{name} < 0
            """
        ):
            words = f"{host}: {placed} of {total} {name} allocated, but {free} counted as free"
            if free == total - placed:
                yield Breach(
                    words, str(host_id), advice="Cordon it and delete some, or give it back the capacity that it had."
                )
            else:
                yield Breach(words, str(host_id), repair=partial(_recompute_free, host_id))


def _recompute_free(host_id: UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE hosts_host h SET free_vcpus = floor(h.vcpus * h.vcpu_overcommit) - a.vcpus,
                free_memory_mib = h.memory_mib - a.memory_mib, free_disk_gib = h.disk_gib - a.disk_gib
            FROM (SELECT coalesce(sum(vcpus), 0) AS vcpus, coalesce(sum(memory_mib), 0) AS memory_mib,
                    coalesce(sum(disk_gib), 0) AS disk_gib
                FROM hosts_allocation WHERE host_id = %s) a
            WHERE h.id = %s
            """,
            [host_id, host_id],
        )


@invariant("I6", "Allocated capacity belongs to a resource on that host")
def allocations_have_owners() -> Iterator[Breach]:
    for kind in kinds():
        unit = kind.unit or kind.type
        for key, resource_id, host, is_gone in rows(
            f"""
            SELECT a.id, a.resource_id, h.name,
                p.seen_at > now() - make_interval(secs => %(silence)s) AND s.id IS NULL
            FROM hosts_allocation a JOIN hosts_host h ON h.id = a.host_id
                LEFT JOIN hosts_hostpulse p ON p.host_id = h.id
                LEFT JOIN ({INVENTORY}) s
                    ON s.type = a.resource_type AND s.id = a.resource_id AND s.host_id = a.host_id AND s.seen <> 'gone'
            WHERE a.resource_type = %(type)s AND NOT {_has_row(kind, "a.resource_id", "a.host_id")}
                AND NOT EXISTS (SELECT 1 FROM hosts_order o
                    WHERE o.resource_id = a.resource_id AND o.host_id = a.host_id AND o.answered_at IS NULL)
            """,
            type=kind.type,
        ):
            words = f"{host} has capacity allocated to a {unit} that belongs to no {kind.type}"
            if is_gone:
                yield Breach(words, str(resource_id), repair=Allocation.objects.filter(pk=key).delete)
            else:
                advice = f"{host} still has the {unit}, or is unreachable. It is freed once the {unit} is gone."
                yield Breach(words, str(resource_id), advice=advice)
