"""Every page of the dashboard with ten thousand instances in its project, and a thousand hosts."""

import statistics
import time

import pytest
from django.db import connection

from compute.models import Instance, Machine
from tests import factories
from tests.benchmarks.measuring import line
from tests.cloud.dashboard.test_every_page import SHOWN, path_to, people, users, world  # noqa: F401

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db]

INSTANCES, HOSTS, ROUNDS = 10_000, 1_000, 7


def fill(world) -> None:  # noqa: F811
    facts = {"project": world.project, "flavor": world.flavor, "image": world.image, "created_by": "bench"}
    facts |= {name: getattr(world.flavor, name) for name in ("vcpus", "memory_mib", "disk_gib")}
    made = Instance.objects.bulk_create(
        [Instance(name=f"vm{number}", **facts) for number in range(INSTANCES)], batch_size=1000
    )
    seen = {"host": world.host, "hypervisor": "qemu", "seen": "running", "seen_generation": 1}
    machines = [Machine(instance=each, **seen) for each in made]
    for each, machine in zip(made, Machine.objects.bulk_create(machines, batch_size=1000), strict=True):
        each.machine = machine
    Instance.objects.bulk_update(made, ["machine"], batch_size=1000)
    for _ in range(HOSTS):
        factories.host()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def test_every_page_with_ten_thousand_instances(world, people, path_to):  # noqa: F811
    fill(world)
    medians = {}
    for route in SHOWN:
        taken = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            answer = people["cloud admin"].get(path_to(route))
            taken.append((time.perf_counter() - began) * 1000)
            assert answer.status_code < 400, (route, answer.status_code)
        medians[route] = statistics.median(taken)
    for route, median in sorted(medians.items(), key=lambda each: -each[1])[:12]:
        line(f"/{route}", target="≤ 200 ms", p50_ms=median)
