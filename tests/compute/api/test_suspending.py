"""Pausing, suspending, resuming and cloning through the REST API, over a fake node."""

import pytest

from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy.models import Quota
from compute.models import Instance

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_suspended_machine_is_stopped_only_by_force(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    assert mia.post(f"{path}/web/resume", {}).status_code == 202  # which is no change
    cloud.settle()
    mia.post(f"{path}/web/suspend", {})
    cloud.settle()
    answer = mia.post(f"{path}/web/stop", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "stopping it loses its memory" in answer.json()["detail"]
    assert mia.post(f"{path}/web/stop", {"force": True}).status_code == 202
    cloud.settle()
    assert mia.get(f"{path}/web").json()["status"] == "stopped"
    assert mia.post(f"{path}/web/suspend", {}).json()["detail"] == "web is not running."
    assert mia.post(f"{path}/web/resume", {}).json()["detail"] == "web is not paused or suspended."
    mia.post(f"{path}/web/start", {})
    cloud.settle()
    instance = Instance.objects.get(name="web")
    assert cloud.node.hypervisor.went_on(str(instance.pk)) == 0
    assert cloud.breaches() == []


@pytest.mark.parametrize(("verb", "went_on"), [("pause", 0), ("suspend", 1)])
def test_start_has_a_machine_go_on_with_its_memory(cloud, mia, path, body, verb, went_on):
    mia.post(path, body)
    cloud.settle()
    mia.post(f"{path}/web/{verb}", {})
    cloud.settle()
    assert mia.post(f"{path}/web/start", {}).status_code == 202
    cloud.settle()
    assert mia.get(f"{path}/web").json()["status"] == "running"
    instance = Instance.objects.get(name="web")
    assert cloud.node.hypervisor.went_on(str(instance.pk)) == went_on
    assert cloud.node.hypervisor.starts(str(instance.pk)) == 1 + went_on
    assert cloud.breaches() == []


def test_a_machine_that_cannot_be_suspended_runs_on(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    cloud.node.hypervisor.unsavable = "the host's disk is full"
    operation = mia.post(f"{path}/web/suspend", {}).json()["operation"]["id"]
    cloud.settle()
    ended = mia.get(f"/api/v1/projects/{cloud.project.name}/operations/{operation}").json()
    assert (ended["outcome"], ended["reason"]) == ("failed", "the host's disk is full")
    assert mia.get(f"{path}/web").json()["status"] == "running"
    assert cloud.breaches() == []


def test_clones_go_on_from_where_it_is_each_as_somebody_else(cloud, mia, path, body):
    mia.post(path, {**body, "labels": {"tier": "front"}})
    cloud.settle()
    answer = mia.post(f"{path}/web/clone", {"name": "copy", "count": 2})
    assert answer.status_code == 202, answer.json()
    assert [item["status"] for item in answer.json()["items"]] == ["launching", "launching"]
    cloud.settle()
    for name in ("copy-1", "copy-2"):
        shown = mia.get(f"{path}/{name}").json()
        assert (shown["status"], shown["labels"]) == ("running", {"tier": "front"})
        told = cloud.node.hypervisor.spec(shown["id"])
        assert (told["seed"]["hostname"], told["seed"]["instance_id"]) == (name, shown["id"])
        assert cloud.node.hypervisor.is_clone(shown["id"])
        assert not list((cloud.node.machines.homes.directory / shown["id"]).glob("saved*"))
    source = Instance.objects.get(name="web")
    assert mia.get(f"{path}/web").json()["status"] == "running"
    assert cloud.node.hypervisor.starts(str(source.pk)) == 1
    assert not list((cloud.node.machines.homes.directory / str(source.pk)).glob("*snapshot*"))
    mia.post(f"{path}/copy-1/stop", {})
    cloud.settle()
    assert mia.delete(f"{path}/web").status_code == 202
    cloud.settle()
    mia.post(f"{path}/copy-1/start", {})
    cloud.settle()
    assert mia.get(f"{path}/copy-1").json()["status"] == "running"
    assert not cloud.node.hypervisor.is_clone(str(Instance.objects.get(name="copy-1").pk))
    assert cloud.breaches() == []


def test_the_source_is_free_as_soon_as_its_clones_have_begun(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    mia.post(f"{path}/web/clone", {"name": "copy", "count": 2})
    for _ in range(10):  # no clock: only what is due by itself, or was told
        engine.sweep()
        cloud.node.look()
    assert not Operation.objects.filter(finished_at=None).exists()
    assert mia.post(f"{path}/web/clone", {"name": "copy-3"}).status_code == 202


def test_a_suspended_machine_can_be_cloned_and_stays_so(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    mia.post(f"{path}/web/suspend", {})
    cloud.settle()
    assert mia.post(f"{path}/web/clone", {"name": "copy"}).json()["name"] == "copy"
    cloud.settle()
    assert mia.get(f"{path}/web").json()["status"] == "suspended"
    assert mia.get(f"{path}/copy").json()["status"] == "running"
    assert cloud.node.hypervisor.is_clone(str(Instance.objects.get(name="copy").pk))
    assert cloud.breaches() == []


def test_a_snapshot_that_fails_costs_the_clones_and_nothing_else(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    cloud.node.hypervisor.unsavable = "the host's disk is full"
    mia.post(f"{path}/web/clone", {"name": "copy"})
    cloud.settle()
    assert mia.get(f"{path}/web").json()["status"] == "running"
    shown = mia.get(f"{path}/copy").json()
    assert (shown["status"], "not there any more" in shown["status_reason"]) == ("error", True)
    assert cloud.breaches() == []


def test_clones_are_refused_where_they_cannot_be(cloud, mia, path, body):
    mia.post(path, body)
    assert mia.post(f"{path}/web/clone", {"name": "copy"}).json()["code"] == "busy"
    cloud.settle()
    assert mia.post(f"{path}/web/clone", {"name": "copy", "count": 21}).status_code == 400
    Quota.objects.update(limits={"instances": 2})
    assert mia.post(f"{path}/web/clone", {"name": "copy", "count": 2}).json()["code"] == "over_quota"
    plan = mia.post(f"{path}/web/clone?dry_run=true", {"name": "copy"})
    assert plan.status_code == 202
    assert Instance.objects.count() == 1
    Host.objects.update(capabilities={"hypervisors": {"qemu": {"verbs": ["pause"]}}})
    answer = mia.post(f"{path}/web/clone", {"name": "copy"})
    assert answer.json()["detail"] == "qemu on its host cannot clone machines."


def test_what_a_host_does_not_offer_is_refused_in_words(cloud, mia, path, body):
    cloud.node.hypervisor.verbs = ["pause"]
    mia.post(path, body)
    cloud.settle()
    answer = mia.post(f"{path}/web/suspend", {})
    assert (answer.status_code, answer.json()["detail"]) == (409, "qemu on its host cannot suspend machines.")


def test_a_paused_machine_whose_emulator_dies_starts_again(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    mia.post(f"{path}/web/pause", {})
    cloud.settle()
    instance = Instance.objects.get(name="web")
    cloud.node.hypervisor.crash(str(instance.pk))
    cloud.node.look()
    cloud.settle()
    assert mia.get(f"{path}/web").json()["status"] == "running"
    assert cloud.breaches() == []
