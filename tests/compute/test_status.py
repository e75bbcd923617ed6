"""Counting by status comes to the same as asking each instance for its own."""

from collections import Counter

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from cloud.hosts.models import HostPulse
from compute import services
from compute.models import Instance, Machine, Power
from compute.status import as_listed, count_by_status, count_of_project, with_status
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


def test_counts_are_the_sums_of_what_each_one_says(cloud):
    wanted = ("up", "down", "off", "broken", "lost", "going", "halting", "again")
    names = {name: cloud.launch(name=name) for name in wanted}
    cloud.settle()
    cloud.do(services.stop, names["off"])
    cloud.settle()
    Machine.objects.filter(instance__name="broken").update(seen=Power.BROKEN)
    Machine.objects.filter(instance__name="down").update(seen=Power.UNKNOWN)
    away = factories.host("away")
    Machine.objects.filter(instance__name="lost").update(host=away)
    HostPulse.objects.filter(host=away).update(seen_at="2020-01-01T00:00:00Z")
    for verb, name in ((services.delete, "going"), (services.stop, "halting"), (services.reboot, "again")):
        cloud.do(verb, names[name])
    cloud.launch(name="new")
    each = Counter(with_status(Instance.objects.all()).values_list("status", flat=True))
    assert each == {
        "running": 1, "stopped": 1, "error": 2, "unreachable": 1, "deleting": 1, "stopping": 1, "rebooting": 1,
        "launching": 1,
    }  # fmt: skip
    assert count_by_status(Instance.objects.all()) == each
    project = Instance.objects.get(name="new").project_id
    assert count_of_project(project) == each
    Instance.objects.filter(name="up").update(trashed_at=Now())
    Instance.objects.filter(name="new").update(project=factories.project())
    assert count_of_project(project) == each - Counter(running=1, launching=1)


def test_a_list_reads_its_columns_at_once(cloud):
    cloud.launch(name="web")
    with CaptureQueriesContext(connection) as queries:
        for instance in as_listed(Instance.objects.all()):
            assert all((instance.flavor.name, instance.image.name, instance.host.name, instance.name))
            assert instance.keypairs == []
    assert len(queries) == 1
    assert "boot_files" not in queries[0]["sql"]
