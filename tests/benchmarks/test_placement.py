"""Placements per second, flat from 100 to 100 000 hosts; and how tightly a real trace is packed."""

import csv
import gzip
import os
import time
import uuid
from pathlib import Path

import pytest
from django.db import connection, transaction

from compute import placement
from compute.models import Instance
from tests import factories
from tests.benchmarks.measuring import line, percentile

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db(transaction=True)]

SIZES = ((1, 1024), (2, 2048), (2, 4096), (4, 8192), (8, 16384))  # vCPUs, MiB
TRACE = Path(
    os.environ.get("PILEUS_TRACE", Path(__file__).parents[2] / "../shared/data/azure2020_packing_sample.csv.gz")
)
LOWER_BOUND_HOSTS = 1041  # at the trace's peak, for hosts of 96 vCPU and 768 GB
SCALE = 100  # the trace speaks of hundredths of a vCPU


def make_hosts(count: int, *, vcpus: int, memory_mib: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            """
            INSERT INTO hosts_host (id, name, labels, enabled, vcpus, memory_mib, disk_gib, vcpu_overcommit, free_vcpus,
                free_memory_mib, free_disk_gib, runs, has_kvm, capabilities, boot_id, quarantined, token_digest,
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
        decision = placement.choose(instance)
    assert decision.host_id
    return time.perf_counter() - began


def test_placements_per_second_at_any_number_of_hosts(settings):
    project, flavor, image = factories.project(), factories.flavor(), factories.image()
    rates = {}
    for hosts in (100, 10_000, 100_000):
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE hosts_host CASCADE")
        make_hosts(hosts, vcpus=256, memory_mib=1024 * 1024)
        taken, count = [], 2000
        for number in range(count):
            vcpus, memory_mib = SIZES[number % len(SIZES)]
            taken.append(
                place_one(
                    Instance(
                        id=uuid.uuid4(), project=project, name=f"vm{hosts}-{number}", flavor=flavor, image=image,
                        vcpus=vcpus, memory_mib=memory_mib, disk_gib=1, created_by="bench",
                    )
                )
            )  # fmt: skip
        rates[hosts] = count / sum(taken)
        line(
            f"placement among {hosts:,} hosts",
            target="≥ 1,000/s, p99 ≤ 5 ms",
            per_second=rates[hosts],
            p50_ms=percentile(taken, 0.5) * 1000,
            p99_ms=percentile(taken, 0.99) * 1000,
        )
    line("rate at 100,000 hosts / rate at 100", target="≥ 0.6", ratio=rates[100_000] / rates[100])


@pytest.mark.skipif(not TRACE.exists(), reason="PILEUS_TRACE names no copy of the Azure packing trace")
def test_packing_of_a_real_trace_up_to_its_peak():
    """Replays arrivals and departures; the hosts in use at the peak are set against the lower bound."""
    make_hosts(1400, vcpus=96 * SCALE, memory_mib=768 * 1024)
    project, flavor, image = factories.project(), factories.flavor(), factories.image()
    steps = []
    with gzip.open(TRACE, "rt") as file:
        for number, row in enumerate(csv.DictReader(text for text in file if not text.startswith("#"))):
            start, end = float(row["start"]), float(row["end"] or 1e9)
            steps.append((max(start, 0.0), 1, number, row))
            steps.append((end, 0, number, None))
    steps.sort(key=lambda step: (step[0], step[1]))
    ids: dict[int, uuid.UUID] = {}
    peak = lost = placed = 0
    deadline = time.perf_counter() + float(os.environ.get("PILEUS_TRACE_SECONDS", "600"))
    for at, arriving, number, row in steps:
        if at > 14 or time.perf_counter() > deadline:
            break
        if not arriving:
            if instance_id := ids.pop(number, None):
                _remove(instance_id)
            continue
        instance = Instance(
            id=uuid.uuid4(), project=project, name=f"t{number}", flavor=flavor, image=image, disk_gib=0,
            vcpus=max(1, round(float(row["vcpu"]) * SCALE)), memory_mib=max(1, round(float(row["mem_gb"]) * 1024)),
            created_by="bench",
        )  # fmt: skip
        with transaction.atomic():
            Instance.objects.bulk_create([instance])
            fitted = placement.choose(instance).host_id
        if fitted:
            ids[number] = instance.pk
            placed += 1
        else:
            lost += 1
        if placed % 500 == 0:
            peak = max(peak, _hosts_in_use())
    line("Azure trace", target="peak ≤ 1.06 × bound", placed=placed, refused=lost, peak_hosts=peak,
         ratio=peak / LOWER_BOUND_HOSTS, replayed_to_day=round(at, 2))  # fmt: skip


def _remove(instance_id: uuid.UUID) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM compute_allocation WHERE id = %s", [instance_id])
        cursor.execute("DELETE FROM compute_instance WHERE id = %s", [instance_id])


def _hosts_in_use() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM hosts_host WHERE free_vcpus < vcpus")
        return int(cursor.fetchone()[0])
