"""How the API's figures grow with what a cloud has, up to 100 000 instances: `./pileus bench api_growth`, in 3 minutes.

PILEUS_BENCH_INSTANCES=1000,10000 measures with other numbers. `times` is a figure by the one before it.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from cloud.hosts import services as hosts
from cloud.operations import engine
from cloud.tenancy import quota
from cloud.tenancy.models import Role
from compute.models import Instance, Machine
from tests import factories
from tests.benchmarks.measuring import line, percentile

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db(transaction=True), pytest.mark.timeout(1800)]

SIZES = [int(text) for text in os.environ.get("PILEUS_BENCH_INSTANCES", "10000,100000").split(",")]
HOSTS, BATCH, TIMES = 1000, 1000, 20
CAPABILITIES = {"hypervisors": {"qemu": {"verbs": ["pause"], "architectures": {"x86_64": {"accelerator": "tcg"}}}}}
QUERIES = {
    "a page of 50": "limit=50",
    "a page of 500": "limit=500",
    "a filter by name": "name=vm77",
    "a filter by status that finds none": "status=suspended",
}


def timed(act: Callable[[], Any], times: int = TIMES) -> dict[str, float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    return {"p50_ms": percentile(taken, 0.5), "max_ms": max(taken)}


def fill(facts: dict[str, Any], host: Any, begin: int, end: int) -> None:
    """Instances that run, numbered from `begin` to below `end`."""
    size = {"vcpus": 1, "memory_mib": 256, "disk_gib": 1, "created_by": "bench"}
    for first in range(begin, end, BATCH):
        numbers = range(first, min(first + BATCH, end))
        made = Instance.objects.bulk_create([Instance(name=f"vm{number}", **size, **facts) for number in numbers])
        seen = {"host": host, "hypervisor": "qemu", "seen": "running", "seen_generation": 1}
        machines = Machine.objects.bulk_create([Machine(instance=each, **seen) for each in made])
        for each, machine in zip(made, machines, strict=True):
            each.machine = machine
        Instance.objects.bulk_update(made, ["machine"])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def test_growth(servers: Any) -> None:
    project = factories.project("bench", limits={"instances": 1_000_000, "vcpus": None})
    token = factories.token(factories.member(project, Role.MEMBER))
    every = [factories.host(f"host{number}", vcpus=100_000, memory_mib=2**30) for number in range(HOSTS)]
    facts = {"project": project, "flavor": factories.flavor("tiny"), "image": factories.image("tiny", files=[])}
    there = 0
    before: dict[str, float] = {}

    def show(name: str, **figures: float) -> None:
        median = figures["p50_ms"]
        growth = {"times": median / before[name]} if name in before else {}
        before[name] = median
        line(f"{there:,} instances: {name}", target="the same" if growth else "", **figures, **growth)

    for size in SIZES:
        fill(facts, every[0], there, size)
        there = size
        with servers.client(token, timeout=60) as api:
            for name, query in QUERIES.items():

                def ask(query: str = query) -> None:
                    answer = api.get(f"/projects/bench/instances?{query}")
                    assert answer.is_success, answer.text

                show(name, **timed(ask))
        show("use of the quota", **timed(lambda: quota.usage(project)))
        show("a sweep with nothing due", **timed(engine.sweep))

        def beats() -> None:
            for host in every:
                capacity = {"vcpus": host.vcpus, "memory_mib": host.memory_mib, "disk_gib": host.disk_gib}
                with transaction.atomic():
                    hosts.beat(
                        host, boot_id="1", agent_version="0", capacity=capacity, capabilities=CAPABILITIES, inventory=[]
                    )

        show(f"a heartbeat of {HOSTS:,} hosts each", **timed(beats, 3))
