"""Placements per second, flat from 100 to 100 000 hosts; and how tightly a real trace is packed."""

import csv
import gzip
import itertools
import math
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from django.db import connection, transaction

from compute.models import Instance
from compute.placement.choose import choose
from tests import factories
from tests.benchmarks.measuring import line, percentile

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db(transaction=True)]

SIZES = ((1, 1024), (2, 2048), (2, 4096), (4, 8192), (8, 16384))  # vCPUs, MiB
# A ~9.5 % sample of Microsoft's AzureTracesForPacking2020 (Hadary et al., Protean, OSDI 2020), reconstructed by CoSpot
# (Iqbal et al., SoCC 2022): start, end (days), vcpu, mem_gb; gzipped CSV. Every fourth machine of it is replayed.
TRACE = Path(os.environ.get("PILEUS_TRACE", ""))
EVERY = int(os.environ.get("PILEUS_TRACE_EVERY", "4"))
HOST_VCPUS, HOST_MEMORY_MIB = 96, 768 * 1024
SCALE = 100  # the trace speaks of hundredths of a vCPU


def make_hosts(count: int, *, vcpus: int, memory_mib: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            """
            INSERT INTO hosts_host (id, name, labels, enabled, vcpus, memory_mib, disk_gib, vcpu_overcommit, free_vcpus,
                free_memory_mib, free_disk_gib, offers, accelerated, capabilities, boot_id, quarantined, token_digest,
                redis_password_digest, created_at)
            SELECT gen_random_uuid(), 'h' || n, '{}', true, %s, %s, 1000000, 1, 0, 0, 0,
                ARRAY['qemu/x86_64', 'qemu/x86_64/tcg'], false, '{}', '', '', n::text, n::text, now()
            FROM generate_series(1, %s) n
            """,
            [vcpus, memory_mib, count],
        )
        cursor.execute(
            "INSERT INTO hosts_hostpulse (host_id, seen_at, agent_version, inventory)"
            " SELECT id, now() + interval '1 day', '', '[]' FROM hosts_host"
        )
        cursor.execute("ANALYZE hosts_host; ANALYZE hosts_hostpulse")
        cursor.execute("SET statement_timeout = '5s'")


def place_one(instance: Instance) -> float:
    Instance.objects.bulk_create([instance])
    began = time.perf_counter()
    with transaction.atomic():
        decision = choose(instance)
    assert decision.host_id
    return time.perf_counter() - began


def wishes(count: int) -> list[Instance]:
    project, flavor, image = factories.project(), factories.flavor(), factories.image()
    return [
        Instance(
            id=uuid.uuid4(), project=project, name=f"vm{number}", flavor=flavor, image=image, vcpus=vcpus,
            memory_mib=memory_mib, disk_gib=1, created_by="bench",
        )
        for number, (vcpus, memory_mib) in zip(range(count), itertools.cycle(SIZES))
    ]  # fmt: skip


def test_placements_per_second_at_any_number_of_hosts():
    rates = {}
    for hosts in (100, 10_000, 100_000):
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE hosts_host CASCADE")
        make_hosts(hosts, vcpus=256, memory_mib=1024 * 1024)
        taken = [place_one(instance) for instance in wishes(2000)]
        rates[hosts] = len(taken) / sum(taken)
        line(
            f"placement among {hosts:,} hosts, one client",
            target="p99 ≤ 5 ms",
            per_second=rates[hosts],
            p50_ms=percentile(taken, 0.5) * 1000,
            p99_ms=percentile(taken, 0.99) * 1000,
        )
        line(
            f"placement among {hosts:,} hosts, four clients", target="≥ 1,000/s", per_second=rate_of_four(wishes(4000))
        )
    line("rate at 100,000 hosts / rate at 100", target="≥ 0.6", ratio=rates[100_000] / rates[100])


def rate_of_four(instances: list[Instance]) -> float:
    """As many as the threads of a control worker, each with its own connection."""
    Instance.objects.bulk_create(instances)

    def place_some(share: list[Instance]) -> None:
        for instance in share:
            with transaction.atomic():
                assert choose(instance).host_id
        connection.close()

    with ThreadPoolExecutor(4) as clients:
        began = time.perf_counter()
        list(clients.map(place_some, [instances[first::4] for first in range(4)]))
        return len(instances) / (time.perf_counter() - began)


@pytest.mark.skipif(not TRACE.is_file(), reason="PILEUS_TRACE names no sample of the Azure packing trace")
def test_packing_of_a_real_trace_up_to_its_peak():
    """Replays arrivals and departures; the hosts in use at the peak are set against the fewest that could hold it."""
    bound, steps = lower_bound(steps_of_trace())
    make_hosts(int(bound * 1.3), vcpus=HOST_VCPUS * SCALE, memory_mib=HOST_MEMORY_MIB)
    image = factories.image()
    refused = peak = 0
    with only_allocations():
        for count, step in enumerate(steps):
            if step.arrives:
                wish = Instance(id=step.ident, image=image, vcpus=step.vcpus, memory_mib=step.memory_mib, disk_gib=0)
                refused += not choose(wish).host_id
            else:
                with connection.cursor() as cursor:
                    cursor.execute("DELETE FROM hosts_allocation WHERE resource_id = %s", [step.ident])
            if count % 200 == 0:
                peak = max(peak, hosts_in_use())
    assert not refused
    line("Azure trace", target="≤ 1.06", steps=len(steps), bound=bound, peak_hosts=peak, peak_to_bound=peak / bound)


class Step(NamedTuple):
    day: float
    arrives: bool
    vcpus: int  # × SCALE
    memory_mib: int
    ident: uuid.UUID


def steps_of_trace() -> list[Step]:
    steps = []
    with gzip.open(TRACE, "rt") as file:
        rows = csv.DictReader(text for text in file if not text.startswith("#"))
        for row in itertools.islice(rows, 0, None, EVERY):
            size = max(1, round(float(row["vcpu"]) * SCALE)), max(1, round(float(row["mem_gb"]) * 1024))
            ident = uuid.uuid4()
            steps.append(Step(max(float(row["start"]), 0.0), True, *size, ident))
            if row["end"]:
                steps.append(Step(float(row["end"]), False, *size, ident))
    return sorted(steps, key=lambda step: (step.day, step.arrives))


def lower_bound(steps: list[Step]) -> tuple[int, list[Step]]:
    """The fewest hosts that could hold the trace's peak, and the steps up to that peak."""
    vcpus = memory_mib = 0
    bound, until = 0.0, 0
    for count, step in enumerate(steps, start=1):
        sign = 1 if step.arrives else -1
        vcpus, memory_mib = vcpus + sign * step.vcpus, memory_mib + sign * step.memory_mib
        needed = max(vcpus / (HOST_VCPUS * SCALE), memory_mib / HOST_MEMORY_MIB)
        if needed > bound:
            bound, until = needed, count
    return math.ceil(bound), steps[:until]


@contextmanager
def only_allocations() -> Iterator[None]:
    """Half a million placements without half a million instances, and without waiting for the disk."""
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        try:
            yield
        finally:
            cursor.execute("SET synchronous_commit = on")
            cursor.execute("TRUNCATE hosts_allocation")


def hosts_in_use() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM hosts_host WHERE free_vcpus < vcpus")
        return int(cursor.fetchone()[0])
