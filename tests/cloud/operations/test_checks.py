"""Looking after the invariants by the clock, what is wrong just now, and repair."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from cloud.events.models import Event
from cloud.hosts.models import Host, HostPulse
from cloud.operations import checks
from cloud.operations.models import Check
from compute.models import Instance
from tests import factories

pytestmark = pytest.mark.django_db
CAPACITY = "cloud.hosts.invariants.capacity_is_the_sum"


@pytest.fixture
def drifted() -> Host:
    """A host of which somebody has miscounted what is free."""
    host = factories.host("node", vcpus=2, vcpu_overcommit=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE hosts_host SET free_vcpus = 1 WHERE id = %s", [host.pk])
    return host


def test_every_invariant_is_looked_at_and_then_left_alone_for_a_while(db):
    looked = checks.look()
    assert looked == Check.objects.count() > 5
    assert not Check.objects.exclude(count=0, problem="").exists()
    assert checks.look() == 0
    Check.objects.filter(name=CAPACITY).update(checked_at=Now() - timedelta(minutes=6))
    assert checks.look() == 1


def test_a_breach_keeps_since_when_it_is_known(drifted):
    checks.look()
    found = Check.objects.get(name=CAPACITY)
    (breach,) = found.breaches
    assert (found.count, breach["subject"], breach["repairable"]) == (1, str(drifted.pk), True)
    assert "node: 0 of 2 vcpus allocated, but 1 counted as free" in breach["words"]
    checks.look(every=True)
    assert Check.objects.get(name=CAPACITY).breaches[0]["since"] == breach["since"]


def test_repair_is_asked_for_in_a_request_and_done_by_a_worker(api, cloud_admin, drifted):
    checks.look()
    root = api.as_(cloud_admin)
    (broken,) = root.get("health").json()["broken"]
    answer = root.post(f"checks/{broken['id']}/repair")
    assert (answer.status_code, answer.json()["repair_requested_by"], answer.json()["count"]) == (200, "root", 1)
    assert root.post(f"checks/{broken['id']}/repair").status_code == 200
    assert Event.objects.filter(action="operations.check.repair", actor="root").count() == 1
    assert checks.look() == 1
    after = root.get(f"checks/{broken['id']}").json()
    assert (after["count"], after["repair_requested_at"], after["repaired_at"] is None) == (0, None, False)
    drifted.refresh_from_db()
    assert drifted.free_vcpus == 2
    assert root.get("health").json()["broken"] == []
    assert root.post(f"checks/{broken['id']}/repair").json()["title"] == "There is nothing to repair"


def test_a_check_that_fails_is_itself_a_trouble(db, monkeypatch, api, cloud_admin):
    monkeypatch.setattr("cloud.hosts.invariants.rows", lambda statement, **facts: 1 / 0)
    checks.look()
    broken = api.as_(cloud_admin).get("health").json()["broken"]
    assert broken
    assert all(check["problem"].startswith("ZeroDivisionError") for check in broken)


def test_what_is_wrong_is_told_with_since_and_what_to_do(api, cloud_admin, project):
    web = Instance.objects.create(
        project=project, name="web", flavor=factories.flavor(), vcpus=1, memory_mib=256, disk_gib=1,
        image=factories.image(), created_by="mia",
    )  # fmt: skip
    factories.place(web, factories.host("fine"), seen="broken", seen_problem="No space left")
    silent = factories.host("silent")
    HostPulse.objects.filter(host=silent).update(seen_at=Now() - timedelta(hours=2))
    factories.host("odd", quarantined="its ledger is ahead")
    Host.objects.filter(name="odd").update(free_memory_mib=-7)
    told = {kind["title"]: kind for kind in api.as_(cloud_admin).get("health").json()["troubles"]}
    assert told["Unreachable hosts"]["cases"][0]["name"] == "silent"
    assert told["Unreachable hosts"]["cases"][0]["since"]
    assert told["Quarantined hosts"]["cases"][0]["words"] == "its ledger is ahead"
    assert told["Overcommitted hosts"]["cases"][0]["words"] == "7 MiB of memory too many allocated"
    assert told["Instances in error"]["cases"][0]["words"] == "No space left"
    assert all(kind["advice"] for kind in told.values())
