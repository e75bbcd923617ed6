"""What must always hold of instances: one process for each that runs, on one host, of its own row."""

from collections.abc import Iterator
from functools import partial
from uuid import UUID

from django.db import transaction

from cloud.events.services import SYSTEM, record
from cloud.hosts.invariants import INVENTORY, everything_is_owned, rows
from cloud.hosts.models import Allocation
from cloud.hosts.reconcile import reconcile
from cloud.operations.invariants import Breach, invariant
from compute import networking, volumes
from compute.models import Instance
from compute.verbs import WORK

# One line per machine on a host that is reachable.
MACHINES = f"SELECT * FROM ({INVENTORY}) listed WHERE type = 'instance'"
# Nothing is under way for the instance, and its host has beaten since it was last reported on.
SETTLED = """
    NOT EXISTS (SELECT 1 FROM operations_operation o
        WHERE o.subject_type = 'instance' AND o.subject_id = i.id AND o.finished_at IS NULL)
"""


BEGINS = [f"compute.instance.{work.name}" for work in WORK]  # events that begin an operation


@invariant("I1", "An instance runs on one host at most")
def one_host_each() -> Iterator[Breach]:
    for instance_id, hosts in rows(
        f"""
        SELECT id, string_agg(host, ', ') FROM ({MACHINES}) seen WHERE seen IN ('running', 'paused')
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


@invariant("I2", "An instance shown as running has one process, on its host")
def rows_match_processes() -> Iterator[Breach]:
    for instance_id, name, row, seen in rows(
        f"""
        SELECT i.id, i.name, m.seen || ' at ' || m.seen_generation,
            coalesce(s.seen || ' at ' || s.generation, 'nothing')
        FROM compute_instance i JOIN compute_machine m ON m.instance_id = i.id
            JOIN hosts_hostpulse p ON p.host_id = m.host_id
            LEFT JOIN ({MACHINES}) s ON s.id = i.id AND s.host_id = m.host_id
        WHERE p.seen_at > now() - make_interval(secs => %(silence)s) AND p.seen_at > m.seen_at AND {SETTLED}
            AND (m.seen = 'running' OR s.seen = 'running')
            AND (m.seen, m.seen_generation) IS DISTINCT FROM (s.seen, s.generation)
        """
    ):
        yield Breach(f"{name} is shown as {row}, but its host has {seen}", str(instance_id), repair=reconcile)


@invariant("I4", "An instance that is changing state has an operation")
def nothing_is_stuck() -> Iterator[Breach]:
    for instance_id, name, seen in rows(
        f"""
        SELECT i.id, i.name, coalesce(m.seen, 'unknown')
        FROM compute_instance i LEFT JOIN compute_machine m ON m.id = i.machine_id
        WHERE i.failed_at IS NULL AND coalesce(m.seen, 'unknown') IN ('unknown', 'gone') AND {SETTLED}
            AND NOT (m.id IS NULL AND i.wanted_power = 'stopped')
        """
    ):
        yield Breach(f"{name} is {seen} and has no operation", str(instance_id), repair=reconcile)


@invariant("I6", "Every placed instance has its share of its host's capacity")
def placed_instances_have_room() -> Iterator[Breach]:
    for instance_id, name, host, has_room in rows(
        """
        SELECT i.id, i.name, h.name,
            h.free_vcpus >= i.vcpus AND h.free_memory_mib >= i.memory_mib AND h.free_disk_gib >= i.disk_gib
        FROM compute_machine m JOIN compute_instance i ON i.id = m.instance_id JOIN hosts_host h ON h.id = m.host_id
            LEFT JOIN hosts_allocation a
                ON a.resource_type = 'instance' AND a.resource_id = i.id AND a.host_id = m.host_id
        WHERE a.id IS NULL
        """
    ):
        words = f"{name} is on {host}, but has no capacity allocated there"
        if has_room:
            yield Breach(words, str(instance_id), repair=partial(_allocate, instance_id))
        else:
            yield Breach(words, str(instance_id), advice=f"{host} has no room for it: make some, then repair.")


@transaction.atomic
def _allocate(instance_id: UUID) -> None:
    """Book again what an instance occupies where it is. The triggers refuse when there is no room any more."""
    instance = Instance.objects.select_for_update().get(pk=instance_id)
    assert instance.host
    size = {"disk_gib": instance.disk_gib}
    if not instance.trashed_at:
        size |= {"vcpus": instance.vcpus, "memory_mib": instance.memory_mib}
    Allocation.of("instance", instance_id).delete()  # one elsewhere
    Allocation.objects.create(resource_type="instance", resource_id=instance_id, host=instance.host, **size)
    record("compute.instance.allocate", instance, actor=SYSTEM, after={"host": str(instance.host), **size})


@invariant("I9", "Every operation on an instance has exactly one event")
def operations_have_events() -> Iterator[Breach]:
    for subject, operations, events in rows(
        """
        SELECT o.subject_id, count(*), e.count FROM operations_operation o JOIN LATERAL (
            SELECT count(*) FROM events_event e WHERE e.subject_type = 'instance' AND e.subject_id = o.subject_id::text
                AND e.action = ANY(%(begins)s)
        ) e ON true
        WHERE o.subject_type = 'instance' GROUP BY o.subject_id, e.count HAVING count(*) <> e.count
        """,
        begins=BEGINS,
    ):
        words = f"It has {operations} operations and {events} events"
        yield Breach(words, str(subject), advice="The database was changed by hand: compare the two.")


@invariant("I12", "A port's instance exists, and is on the same host")
def ports_have_their_instances() -> Iterator[Breach]:
    for holder_id, name, ports in rows(
        """
        SELECT p.holder_id, p.holder_name, count(*) FROM network_port p
        LEFT JOIN compute_instance i ON i.id = p.holder_id LEFT JOIN compute_machine m ON m.id = i.machine_id
        WHERE p.holder_type = 'instance' AND (i.id IS NULL OR p.host_id IS NOT NULL AND m.host_id IS NULL
            OR p.host_id <> m.host_id)
        GROUP BY p.holder_id, p.holder_name ORDER BY p.holder_id
        """
    ):
        words = f"{name} has {ports} ports, but does not exist or is on another host"
        yield Breach(words, str(holder_id), repair=partial(networking.put_right, holder_id))


@invariant("I14", "An attached volume's instance exists, and is on the same host")
def volumes_have_their_instances() -> Iterator[Breach]:
    for holder_id, holder, volume, is_there in rows(
        """
        SELECT a.holder_id, a.holder_name, v.name, i.id IS NOT NULL FROM storage_attachment a
        JOIN storage_volume v ON v.id = a.volume_id JOIN storage_layer l ON l.id = v.active_id
        JOIN storage_volumetype t ON t.id = v.type_id
        LEFT JOIN compute_instance i ON i.id = a.holder_id LEFT JOIN compute_machine m ON m.id = i.machine_id
        WHERE a.holder_type = 'instance' AND (i.id IS NULL OR (l.host_id <> m.host_id AND t.pool_kind <> 'nbd'))
        ORDER BY v.name, a.id
        """
    ):
        if is_there:
            advice = "The database was changed by hand: detach the volume, or delete the instance."
            yield Breach(f"{volume} is attached to {holder}, which is on another host", str(holder_id), advice=advice)
        else:
            repair = partial(volumes.forget_holder, holder_id)
            yield Breach(f"{volume} is attached to {holder}, which does not exist", str(holder_id), repair=repair)
