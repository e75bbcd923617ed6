"""What must always hold of instances: one process for each that runs, on one host, of its own row."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from cloud.events.services import SYSTEM, record
from cloud.hosts import orders
from cloud.hosts.models import Host
from cloud.operations.invariants import Breach, invariant
from compute.models import Allocation, Instance
from compute.reconcile import reconcile
from compute.verbs import WORK

# One line per thing on a host that is reachable, as its last heartbeat listed it.
INVENTORY = """
    SELECT p.host_id, p.seen_at, h.name AS host, (item->>'id')::uuid AS id, item->>'seen' AS seen,
        (item->>'generation')::bigint AS generation
    FROM hosts_hostpulse p JOIN hosts_host h ON h.id = p.host_id, jsonb_array_elements(p.inventory) item
    WHERE item->>'type' = 'instance' AND p.seen_at > now() - make_interval(secs => %(silence)s)
"""
# Nothing is under way for the instance, and its host has beaten since it was last reported on.
SETTLED = """
    NOT EXISTS (SELECT 1 FROM operations_operation o
        WHERE o.subject_type = 'instance' AND o.subject_id = i.id AND o.finished_at IS NULL)
"""


BEGINS = [f"compute.instance.{work.name}" for work in WORK]  # events that begin an operation


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"silence": settings.UNREACHABLE_AFTER_SECONDS, "begins": BEGINS})
        return cursor.fetchall()


@invariant("I1", "each VM runs on at most one host")
def one_host_each() -> Iterator[Breach]:
    for instance_id, hosts in _rows(
        f"""
        SELECT id, string_agg(host, ', ') FROM ({INVENTORY}) seen WHERE seen IN ('running', 'paused')
        GROUP BY id HAVING count(*) > 1
        """
    ):
        strays = partial(_remove_strays, str(instance_id))
        yield Breach(f"runs on {hosts} at once", str(instance_id), repair=strays)


def _remove_strays(instance_id: str) -> None:
    """It is its row's host that has the right one: the others hold it unowned."""
    for breach in everything_is_owned():
        if breach.subject_id == instance_id and breach.repair:
            breach.repair()


@invariant("I2", "every row seen as running = one running process, same host, same generation")
def rows_match_processes() -> Iterator[Breach]:
    for instance_id, name, row, seen in _rows(
        f"""
        SELECT i.id, i.name, i.seen_power || ' at ' || i.seen_generation,
            coalesce(s.seen || ' at ' || s.generation, 'nothing')
        FROM compute_instance i JOIN hosts_hostpulse p ON p.host_id = i.host_id
            LEFT JOIN ({INVENTORY}) s ON s.id = i.id AND s.host_id = i.host_id
        WHERE p.seen_at > now() - make_interval(secs => %(silence)s) AND p.seen_at > i.seen_at AND {SETTLED}
            AND (i.seen_power = 'running' OR s.seen = 'running')
            AND (i.seen_power, i.seen_generation) IS DISTINCT FROM (s.seen, s.generation)
        """
    ):
        yield Breach(f"{name}: the row says {row}, its host has {seen}", str(instance_id), repair=reconcile)


@invariant("I3", "nothing is on a host without a row that owns it")
def everything_is_owned() -> Iterator[Breach]:
    for host_id, host, instance_id, seen, generation in _rows(
        f"""
        SELECT s.host_id, s.host, s.id, s.seen, s.generation FROM ({INVENTORY}) s
        WHERE s.seen <> 'gone'
            AND NOT EXISTS (SELECT 1 FROM compute_instance i WHERE i.id = s.id AND i.host_id = s.host_id)
            AND NOT EXISTS (SELECT 1 FROM hosts_order o WHERE o.host_id = s.host_id AND o.resource_id = s.id
                AND (o.answered_at IS NULL OR o.answered_at > s.seen_at))
        """
    ):
        yield Breach(
            f"{host} holds a machine ({seen}) that no instance owns",
            str(instance_id),
            repair=partial(_remove_unowned, host_id, instance_id, generation),
        )


@transaction.atomic
def _remove_unowned(host_id: UUID, instance_id: UUID, generation: int) -> None:
    host = Host.objects.get(pk=host_id)
    orders.post(host, "instance", instance_id, "ensure_gone", generation + 1)
    record("hosts.host.remove_unowned", host, actor=SYSTEM, after={"instance": str(instance_id)})


@invariant("I4", "every instance in a transitional state has a live operation")
def nothing_is_stuck() -> Iterator[Breach]:
    for instance_id, name, seen in _rows(
        f"""
        SELECT i.id, i.name, i.seen_power FROM compute_instance i
        WHERE i.failed_at IS NULL AND i.seen_power IN ('unknown', 'gone') AND {SETTLED}
        """
    ):
        yield Breach(f"{name} is seen {seen} and nothing is under way", str(instance_id), repair=reconcile)


@invariant("I6", "what is placed on a host is at most its capacity, and free is capacity less the sum of allocations")
def capacity_is_the_sum() -> Iterator[Breach]:
    kinds = {"vcpus": "floor(h.vcpus * h.vcpu_overcommit)::int", "memory_mib": "h.memory_mib", "disk_gib": "h.disk_gib"}
    for kind, capacity in kinds.items():
        for host_id, name, free, total, placed in _rows(
            f"""
            SELECT h.id, h.name, h.free_{kind}, {capacity}, coalesce(sum(a.{kind}), 0)
            FROM hosts_host h LEFT JOIN compute_allocation a ON a.host_id = h.id
            GROUP BY h.id HAVING h.free_{kind} <> {capacity} - coalesce(sum(a.{kind}), 0) OR h.free_{kind} < 0
            """
        ):
            words = f"{name}: {placed} {kind} placed on {total}, {free} called free"
            if free == total - placed:
                yield Breach(words, str(host_id), advice="Drain it and delete some, or give it back what it had.")
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
                FROM compute_allocation WHERE host_id = %s) a
            WHERE h.id = %s
            """,
            [host_id, host_id],
        )


@invariant("I6", "every placed instance has its allocation, and every allocation its instance or a tombstone")
def allocations_have_owners() -> Iterator[Breach]:
    for instance_id, name, host, has_room in _rows(
        """
        SELECT i.id, i.name, h.name,
            h.free_vcpus >= i.vcpus AND h.free_memory_mib >= i.memory_mib AND h.free_disk_gib >= i.disk_gib
        FROM compute_instance i JOIN hosts_host h ON h.id = i.host_id
            LEFT JOIN compute_allocation a ON a.instance_id = i.id AND a.host_id = i.host_id
        WHERE a.id IS NULL
        """
    ):
        words = f"{name} is placed on {host} without an allocation"
        if has_room:
            yield Breach(words, str(instance_id), repair=partial(_allocate, instance_id))
        else:
            yield Breach(words, str(instance_id), advice=f"{host} has no room left for it: make some, then repair.")
    for allocation_id, host, is_gone in _rows(
        f"""
        SELECT a.id, h.name, p.seen_at > now() - make_interval(secs => %(silence)s) AND s.id IS NULL
        FROM compute_allocation a JOIN hosts_host h ON h.id = a.host_id LEFT JOIN hosts_hostpulse p ON p.host_id = h.id
            LEFT JOIN ({INVENTORY}) s ON s.id = a.id AND s.host_id = a.host_id AND s.seen <> 'gone'
        WHERE a.instance_id IS NULL AND NOT EXISTS (SELECT 1 FROM hosts_order o
            WHERE o.resource_id = a.id AND o.host_id = a.host_id AND o.answered_at IS NULL)
        """
    ):
        words = f"{host} keeps room for a machine that no instance owns"
        if is_gone:
            yield Breach(words, str(allocation_id), repair=Allocation.objects.filter(pk=allocation_id).delete)
        else:
            advice = f"{host} still has the machine, or is away: it is let go when the machine is seen gone."
            yield Breach(words, str(allocation_id), advice=advice)


@transaction.atomic
def _allocate(instance_id: UUID) -> None:
    """Book again what an instance occupies where it is. The triggers refuse when there is no room any more."""
    instance = Instance.objects.select_for_update().get(pk=instance_id)
    assert instance.host
    size = {"vcpus": instance.vcpus, "memory_mib": instance.memory_mib, "disk_gib": instance.disk_gib}
    Allocation.objects.filter(pk=instance_id).delete()  # one elsewhere
    Allocation.objects.create(pk=instance_id, instance=instance, host=instance.host, **size)
    record("compute.instance.allocate", instance, actor=SYSTEM, after={"host": str(instance.host), **size})


@invariant("I9", "every operation on an instance was begun by exactly one event")
def operations_have_events() -> Iterator[Breach]:
    for subject, operations, events in _rows(
        """
        SELECT o.subject_id, count(*), e.count FROM operations_operation o JOIN LATERAL (
            SELECT count(*) FROM events_event e WHERE e.subject_type = 'instance' AND e.subject_id = o.subject_id::text
                AND e.action = ANY(%(begins)s)
        ) e ON true
        WHERE o.subject_type = 'instance' GROUP BY o.subject_id, e.count HAVING count(*) <> e.count
        """
    ):
        words = f"{operations} operations, {events} events"
        yield Breach(words, str(subject), advice="Rows were changed past the cloud: compare the two.")
