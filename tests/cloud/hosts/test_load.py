"""What hosts measure of themselves: told in heartbeats, kept by the minute, shown beside what is allocated."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from agent import system
from cloud.hosts.models import Host, HostLoad
from cloud.retention import sweep
from tests.things.node import ThingNode

pytestmark = pytest.mark.django_db(transaction=True)
BUSY = {"cpu_percent": 42.5, "memory_mib": 700, "memory_total_mib": 1000, "disk_gib": 3.5, "disk_total_gib": 10}


@pytest.fixture
def node():
    return ThingNode()


def beat(node, load):
    body = {"boot_id": "b", "agent_version": "1", "capacity": {"vcpus": 1, "memory_mib": 1, "disk_gib": 1}}
    return node.post("heartbeat", **body, capabilities={"things": True}, inventory=[], load=load)["status"]


def test_a_minute_has_one_value_and_the_last_one_is_told(node, api, cloud_admin):
    assert beat(node, BUSY) == 200
    assert beat(node, {**BUSY, "cpu_percent": 50}) == 200
    admin, host = api.as_(cloud_admin), Host.objects.get()
    assert admin.get(f"hosts/{host.name}").json()["load"]["cpu_percent"] == 50
    series = admin.get(f"hosts/{host.name}/metrics?span=1h").json()["metrics"]
    assert len(series["cpu_percent"]["values"]) == 60
    assert {name: [v for v in each["values"] if v is not None][:1] for name, each in series.items()} == {
        "cpu_percent": [42.5], "memory_mib": [700.0], "disk_gib": [3.5],
    }  # fmt: skip


def test_older_load_than_is_kept_is_refused_with_how_long_that_is(node, api, cloud_admin):
    begin = timezone.now() - timedelta(hours=26)
    answer = api.as_(cloud_admin).get(f"hosts/{node.host.name}/metrics?from={begin:%Y-%m-%dT%H:%M:%SZ}")
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (
        400,
        "What was measured is kept for 25 hours.",
    )


@pytest.mark.parametrize("load", [{"cpu_percent": 1}, {**BUSY, "cpu_percent": -1}, {**BUSY, "memory_mib": "much"}])
def test_what_is_no_load_is_refused(node, load):
    assert beat(node, load) == 400
    assert not HostLoad.objects.exists()


def test_a_host_from_before_has_no_load(node, api, cloud_admin):
    node.heartbeat()
    assert api.as_(cloud_admin).get(f"hosts/{Host.objects.get().name}").json()["load"] is None


def test_it_is_kept_for_a_day(node):
    beat(node, BUSY)
    HostLoad.objects.update(at=Now() - timedelta(hours=24))
    sweep()
    assert HostLoad.objects.count() == 1
    HostLoad.objects.update(at=Now() - timedelta(hours=26))
    sweep()
    assert not HostLoad.objects.exists()


def test_a_machine_measures_what_it_uses(tmp_path):
    load = system.Load(tmp_path)
    sum(range(200_000))
    now = load.now()
    assert 0 <= now["cpu_percent"] <= 100
    assert 0 < now["memory_mib"] < now["memory_total_mib"]
    assert 0 <= now["disk_gib"] <= now["disk_total_gib"]
