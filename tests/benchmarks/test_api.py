"""The REST API through a real web process: creating instances, and pages out of ten thousand."""

import time

import pytest
from django.db import connection

from cloud.tenancy.models import Role
from compute.models import Instance
from tests import factories
from tests.benchmarks.measuring import line, percentile

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db(transaction=True)]

MANY = 10_000


@pytest.fixture
def tenant(servers):
    project = factories.project("bench", limits={})
    member = factories.member(project, Role.MEMBER)
    factories.host("big", vcpus=100_000, memory_mib=2**30, disk_gib=2**30)
    facts = {"project": project, "flavor": factories.flavor("tiny"), "image": factories.image("tiny-linux", files=[])}
    return facts, factories.token(member)


def timed(send, count, pause=0.0):
    taken = []
    for number in range(count):
        began = time.perf_counter()
        answer = send(number)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.is_success, answer.text
        time.sleep(pause)  # below the rate limit, which would answer 429
    return taken


def test_creating_an_instance(servers, tenant):
    _, token = tenant
    body = {"flavor": "tiny", "image": "tiny-linux"}
    with servers.client(token) as api:
        path = "/projects/bench/instances"
        taken = timed(lambda number: api.post(path, json={"name": f"vm{number}", **body}), 300, 0.02)
    line("POST …/instances", p50_ms=percentile(taken, 0.5), p99_ms=percentile(taken, 0.99))


def test_pages_out_of_ten_thousand_instances(servers, tenant):
    facts, token = tenant
    Instance.objects.bulk_create(
        [
            Instance(name=f"vm{number}", vcpus=1, memory_mib=256, disk_gib=1, created_by="bench", **facts)
            for number in range(MANY)
        ],
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with servers.client(token) as api:
        for limit in (50, 500):
            path = f"/projects/bench/instances?limit={limit}"
            taken = timed(lambda _, path=path: api.get(path), 30, 0.02)
            line(f"a page of {limit} out of {MANY:,}", target="≤ 200 ms", p50_ms=percentile(taken, 0.5),
                 p99_ms=percentile(taken, 0.99))  # fmt: skip
        path = "/projects/bench/instances?status=running"
        taken = timed(lambda _: api.get(path), 10, 0.02)
        line("a filter by status that finds none", p50_ms=percentile(taken, 0.5), p99_ms=percentile(taken, 0.99))
