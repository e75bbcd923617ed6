"""What 1000 instances cost that are measured: taken in, packed, given out."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from compute import samples
from compute.models import METRICS, Instance, Machine, Sample, SampleDay, SampleHour
from tests import factories
from tests.benchmarks.measuring import line, percentile

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db]

HOSTS, EACH = 20, 50


@pytest.fixture
def hosts():
    """A thousand instances on twenty hosts."""
    project, flavor, image = factories.project(limits={}), factories.flavor(), factories.image()
    hosts = [factories.host() for _ in range(HOSTS)]
    for host in hosts:
        made = Instance.objects.bulk_create(
            Instance(
                project=project, name=f"{host.name}-{number}", flavor=flavor, image=image, vcpus=1, memory_mib=256,
                disk_gib=1, created_by="bench",
            )
            for number in range(EACH)
        )  # fmt: skip
        Machine.objects.bulk_create(Machine(instance=each, host=host, hypervisor="qemu") for each in made)
    return hosts


def batch_of(host, age):
    ids = Machine.objects.filter(host=host).values_list("instance_id", flat=True)
    return [{"id": str(pk), "age": age, **{name: 12.5 for name in METRICS}} for pk in ids]


def size_of(*models):
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) name",
                       [[model._meta.db_table for model in models]])  # fmt: skip
        return float(cursor.fetchone()[0]) / 2**20


def test_samples_of_a_thousand_instances(hosts):
    rounds = [[(host, batch_of(host, 10.0 * age)) for host in hosts] for age in range(10)]
    taken, began = [], time.process_time()
    for batches in rounds:
        for host, batch in batches:
            start = time.perf_counter()
            assert samples.take_in(host=host, samples=batch) == EACH
            taken.append((time.perf_counter() - start) * 1000)
    spent = (time.process_time() - began) / 10
    line(f"samples of {HOSTS * EACH} instances, a batch for each of {HOSTS} hosts", target="≤ 1 % of a core",
         p50_ms=percentile(taken, 0.5), p99_ms=percentile(taken, 0.99), wall_ms_each_10_s=sum(taken) / 10,
         python_percent_of_a_core=100 * spent / 10)  # fmt: skip


def test_packing_an_hour_of_a_thousand_instances(hosts):
    now = samples._now()
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO compute_sample (instance_id, at, {", ".join(METRICS)})
            SELECT i.id, at, {", ".join("random() * 1000" for _ in METRICS)} FROM compute_instance i,
                generate_series(%s::timestamptz, %s::timestamptz - interval '1 second', interval '10 seconds') at
            """,
            [hour, hour + timedelta(hours=1)],
        )
        cursor.execute("ANALYZE compute_sample")
    raw = size_of(Sample)
    start = time.perf_counter()
    samples.pack(now)
    seconds = time.perf_counter() - start
    assert SampleHour.objects.count() == HOSTS * EACH
    line(f"packing an hour of {HOSTS * EACH} instances", seconds=seconds, raw_mib=raw, packed_mib=size_of(SampleHour))
    instance = Instance.objects.first()
    for name, span in samples.SPANS.items():
        start = time.perf_counter()
        samples.series(instance, span)
        line(f"a series of {name}", ms=(time.perf_counter() - start) * 1000)
    assert not Sample.objects.filter(at__lt=Now() - timedelta(hours=2)).exists()
    assert not SampleDay.objects.exists()
