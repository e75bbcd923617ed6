"""Instances through the REST API: what a client sees, over a fake node where something has to run."""

import re
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models.functions import Now

from agent.errors import Refused
from cloud.events.models import Event
from cloud.events.services import SYSTEM
from cloud.hosts import services as hosts
from cloud.hosts.models import Allocation, Host, HostPulse, Order
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy.models import Quota, Role
from compute.models import Instance
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_launch_answers_at_once_and_ends_running(cloud, mia, path, body):
    answer = mia.post(path, body)
    assert answer.status_code == 202, answer.json()
    shown = answer.json()
    assert (shown["status"], shown["wanted_power"], shown["seen_power"]) == ("launching", "running", "unknown")
    assert shown["operation"]["kind"] == "compute.launch"
    assert shown["host"] is None
    assert answer.headers["Location"] == f"/api/v1/projects/{cloud.project.name}/instances/{shown['id']}"

    cloud.settle()
    shown = mia.get(f"{path}/web").json()
    assert (shown["status"], shown["operation"], shown["hypervisor"]) == ("running", None, "qemu")
    assert shown["flavor"] == {
        "id": str(cloud.flavor.pk), "name": cloud.flavor.name, "vcpus": 1, "memory_mib": 256, "disk_gib": 1,
    }  # fmt: skip


def test_the_host_key_is_known_and_stays(cloud, mia, path, body):
    assert mia.post(path, body).json()["ssh_host_key"] is None
    cloud.settle()
    key = mia.get(f"{path}/web").json()["ssh_host_key"]
    assert re.fullmatch(r"ssh-ed25519 \S{68}", key)
    for verb in ("stop", "start"):
        mia.post(f"{path}/web/{verb}", {})
        cloud.settle()
        assert mia.get(f"{path}/web").json()["ssh_host_key"] == key
    mia.post(f"{path}/web/clone", {"name": "copy"})
    cloud.settle()
    assert mia.get(f"{path}/copy").json()["ssh_host_key"] not in (None, key)


def tells_of_its_host_key(cloud, said):
    """What becomes of the report of a host that says this of an instance's guest."""
    instance = Instance.objects.get(name="web")
    report = {
        "resource": {"type": "instance", "id": str(instance.pk)},
        "generation": instance.generation,
        "sequence": instance.machine.seen_sequence + 1,
        "seen": "running",
        "facts": {"ssh_host_key": said},
    }
    return cloud.node.control_plane.report(report)


@pytest.mark.parametrize("said", ["<script>", "ssh-ed25519 AAAA", "ssh-ed25519 " + "A" * 68 + " more", None])
def test_what_is_no_host_key_is_not_taken_from_a_host(cloud, mia, path, body, said):
    mia.post(path, body)
    cloud.settle()
    key = mia.get(f"{path}/web").json()["ssh_host_key"]
    assert tells_of_its_host_key(cloud, said) == "taken"
    assert mia.get(f"{path}/web").json()["ssh_host_key"] == key


def test_a_host_key_of_another_type_is_refused_with_its_report(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    key = mia.get(f"{path}/web").json()["ssh_host_key"]
    with pytest.raises(Refused, match="facts of this report"):
        tells_of_its_host_key(cloud, 7)
    assert mia.get(f"{path}/web").json()["ssh_host_key"] == key


def test_a_machine_from_before_host_keys_were_made_has_none(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    mia.post(f"{path}/web/stop", {})
    cloud.settle()
    instance = Instance.objects.get(name="web")
    (cloud.node.home(str(instance.pk)).host_key).unlink()
    Instance.objects.update(ssh_host_key="")
    mia.post(f"{path}/web/start", {})
    cloud.settle()
    mia.post(f"{path}/web/clone", {"name": "copy"})
    cloud.settle()
    for name in ("web", "copy"):
        shown = mia.get(f"{path}/{name}").json()
        assert (shown["status"], shown["ssh_host_key"]) == ("running", None)


def test_the_verbs_go_round(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    for verb, during, after in [
        ("stop", "stopping", "stopped"),
        ("start", "starting", "running"),
        ("reboot", "rebooting", "running"),
        ("pause", "running", "paused"),
        ("resume", "paused", "running"),
        ("suspend", "running", "suspended"),
        ("resume", "suspended", "running"),
        ("pause", "running", "paused"),
        ("suspend", "paused", "suspended"),
        ("start", "starting", "running"),
    ]:
        answer = mia.post(f"{path}/web/{verb}", {})
        assert (answer.status_code, answer.json()["status"]) == (202, during), answer.json()
        cloud.settle()
        assert mia.get(f"{path}/web").json()["status"] == after
    answer = mia.delete(f"{path}/web?purge=true")
    assert (answer.status_code, answer.json()["status"]) == (202, "deleting")
    assert mia.delete(f"{path}/web?purge=true").status_code == 202
    cloud.settle()
    assert mia.get(f"{path}/web").status_code == 404
    assert cloud.running() == set()
    assert cloud.breaches() == []


def test_every_fault_of_a_body_is_named_at_once(mia, path):
    answer = mia.post(
        path, {"name": "Not A Name", "flavor": "huge", "image": 7, "colour": "red", "labels": {"a b": "c"}}
    )
    assert answer.status_code == 400
    problem = answer.json()
    assert {fault["pointer"] for fault in problem["errors"]} == {
        "/name", "/flavor", "/image", "/colour", "/labels/a b",
    }  # fmt: skip
    assert (problem["fix_by"], problem["retryable"]) == ("you", False)
    assert not Instance.objects.exists()


def test_another_tenants_keypair_reads_like_one_that_is_not_there(mia, path, body):
    other = factories.project("other")
    theirs = other.keypairs.create(name="theirs", public_key="x", fingerprint="x")
    texts = [
        mia.post(path, {**body, "keypairs": [reference]}).json()["errors"][0]["message"]
        for reference in (str(theirs.pk), "6f7b0b0e-0000-4000-8000-000000000000", "theirs", "absent")
    ]
    assert len(set(texts)) == 1


def test_a_dry_run_shows_what_would_be_and_keeps_nothing(cloud, mia, path, body):
    answer = mia.post(f"{path}?dry_run=true", body)
    assert answer.status_code == 202, answer.json()
    plan = answer.json()["plan"]
    assert plan["created"][0]["name"] == "web"
    assert plan["quota"]["after"]["instances"]["used"] == plan["quota"]["before"]["instances"]["used"] + 1
    assert plan["placement"]["placed"] is True
    assert plan["placement"]["host"] is None
    assert (Instance.objects.count(), Operation.objects.count()) == (0, 0)
    assert not Event.objects.filter(action="compute.instance.launch").exists()
    host = Host.objects.get()
    assert host.free_memory_mib == host.memory_mib


def test_the_same_key_makes_one_instance(mia, path, body):
    first = mia.post(path, body, HTTP_IDEMPOTENCY_KEY="k1")
    again = mia.post(path, body, HTTP_IDEMPOTENCY_KEY="k1")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotent-Replay"] == "true"
    other = mia.post(path, {**body, "name": "other"}, HTTP_IDEMPOTENCY_KEY="k1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
    assert Instance.objects.count() == 1


def test_quota_is_refused_by_kind_and_a_failed_launch_counts_nothing(cloud, mia, path, body):
    Quota.objects.filter(project=cloud.project).update(limits={"instances": 1, "vcpus": 1, "memory_mib": 256})
    cloud.node.hypervisor.broken = "no such luck"
    assert mia.post(path, body).status_code == 202
    cloud.settle()
    shown = mia.get(f"{path}/web").json()
    assert (shown["status"], "no such luck" in shown["status_reason"]) == ("error", True)
    assert mia.get(f"projects/{cloud.project.name}/quota").json()["instances"]["used"] == 0

    cloud.node.hypervisor.broken = ""
    assert mia.post(path, {**body, "name": "second"}).status_code == 202
    refused = mia.post(f"{path}/web/start", {})
    assert (refused.status_code, refused.json()["code"]) == (403, "over_quota")
    assert len(refused.json()["errors"]) == 3


def test_start_retries_a_failed_launch(cloud, mia, path, body):
    cloud.node.hypervisor.broken = "no such luck"
    mia.post(path, body)
    cloud.settle()
    cloud.node.hypervisor.broken = ""
    assert mia.post(f"{path}/web/start", {}).json()["status"] == "launching"
    cloud.settle()
    assert mia.get(f"{path}/web").json()["status"] == "running"
    assert cloud.breaches() == []


def test_what_fits_no_host_is_refused_at_once_and_explained(cloud, mia, path, body):
    giant = factories.flavor("giant", memory_mib=20_000)
    answer = mia.post(path, {**body, "flavor": giant.name})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_capacity")
    assert "lack memory" in answer.json()["detail"]
    assert cloud.flavor.name in answer.json()["detail"]
    assert not Instance.objects.exists()


@pytest.mark.parametrize(("hypervisors", "wish"), [(["qemu", "unicorn"], {"hypervisor": "unicorn"}), (["unicorn"], {})])
def test_a_size_that_a_hypervisor_never_takes_is_refused_in_words(cloud, mia, path, body, hypervisors, wish):
    image = factories.image(architecture="riscv64", hypervisors=hypervisors)
    flavor = factories.flavor(vcpus=2)
    answer = mia.post(path, {**body, "image": image.name, "flavor": flavor.name, **wish})
    assert answer.status_code == 400
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/flavor"
    assert "unicorn takes at most 1 vCPU and 1024 MiB of memory" in fault["message"]


def test_what_would_fit_an_empty_host_waits_for_room_and_then_starts(cloud, mia, path, body):
    half = factories.flavor("half", memory_mib=10_000)
    mia.post(path, {**body, "flavor": half.name})
    cloud.settle()
    answer = mia.post(path, {**body, "name": "second", "flavor": half.name})
    assert answer.status_code == 202
    assert mia.post(f"{path}?fail_fast=true", {**body, "name": "third", "flavor": half.name}).status_code == 409
    mia.delete(f"{path}/web")
    cloud.settle()
    assert mia.get(f"{path}/second").json()["status"] == "running"
    assert cloud.breaches() == []


def delete_the_first(cloud, mia, path):
    mia.delete(f"{path}/web")


def enable_a_second_host(cloud, mia, path):
    with transaction.atomic():
        hosts.update(Host.objects.get(name="node2"), actor=SYSTEM, enabled=True)


def hear_a_second_host_again(cloud, mia, path):
    cloud.nodes[1].heartbeat()


def add_memory_to_the_host(cloud, mia, path):
    cloud.node.fixed_capacity = {name: 2 * value for name, value in cloud.node.capacity().items()}
    cloud.node.heartbeat()


@pytest.mark.parametrize(
    "make_room", [delete_the_first, enable_a_second_host, hear_a_second_host_again, add_memory_to_the_host]
)
def test_what_waits_for_room_is_told_when_there_is_some(cloud, mia, path, body, make_room):
    half = factories.flavor("half", memory_mib=10_000)
    cloud.nodes.append(cloud.add_node("node2"))
    if make_room is not enable_a_second_host:
        HostPulse.objects.filter(host__name="node2").update(seen_at=Now() - timedelta(hours=1))
    else:
        Host.objects.filter(name="node2").update(enabled=False)
    mia.post(path, {**body, "flavor": half.name})
    for _ in range(5):
        engine.sweep()
        cloud.node.look()
    assert mia.post(path, {**body, "name": "second", "flavor": half.name}).status_code == 202
    engine.sweep()
    assert mia.get(f"{path}/second").json()["status_reason"].startswith("waiting for room")
    assert [one["name"] for one in mia.get(f"{path}?status=queued").json()["items"]] == ["second"]
    make_room(cloud, mia, path)
    for _ in range(10):  # no clock: only what is due by itself, or was told
        engine.sweep()
        for node in cloud.nodes:
            node.look()
    assert mia.get(f"{path}/second").json()["status"] == "running"


def test_a_busy_instance_names_the_operation_that_holds_it(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    mia.delete(f"{path}/web?purge=true")
    answer = mia.post(f"{path}/web/stop", {})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (409, "busy", True)
    assert problem["operation"] == str(Operation.objects.get(kind="compute.delete").pk)
    assert answer.headers["Retry-After"]


def test_a_cancelled_launch_keeps_the_row_with_its_reason(cloud, mia, path, body):
    operation = mia.post(path, body).json()["operation"]["id"]
    answer = mia.post(f"projects/{cloud.project.name}/operations/{operation}/cancel", {})
    assert answer.status_code == 202, answer.json()
    cloud.settle()
    shown = mia.get(f"{path}/web").json()
    assert (shown["status"], shown["status_reason"]) == ("error", "The launch cancelled: cancelled by mia")
    assert Operation.objects.get(pk=operation).outcome == "cancelled"
    assert cloud.breaches() == []


def test_the_console_log_is_what_the_host_pushed(cloud, mia, path, body):
    instance = mia.post(path, body).json()["id"]
    cloud.settle()
    headers = {"X-Log-Offset": "0", "Content-Type": "application/octet-stream"}
    log = b"one\r\ntwo\nREADY web 1.2\n"
    cloud.node.control_plane.tell("PUT", f"/agent/v1/console-logs/{instance}", content=log, headers=headers)
    assert mia.get(f"{path}/web/console-log?lines=2").json() == {"lines": ["two", "READY web 1.2"], "truncated": True}
    assert mia.get(f"{path}/web/console-log").json()["truncated"] is False


def test_a_crash_is_restarted_by_policy_and_a_clean_power_off_is_respected(cloud, mia, path, body):
    instance = mia.post(path, body).json()["id"]
    cloud.settle()
    cloud.node.hypervisor.crash(instance)
    cloud.node.look()
    assert mia.get(f"{path}/web").json()["status"] == "starting"
    cloud.settle()
    assert mia.get(f"{path}/web").json()["status"] == "running"
    assert cloud.node.hypervisor.starts(instance) == 2

    cloud.node.hypervisor.power_off(instance)
    cloud.node.look()
    shown = mia.get(f"{path}/web").json()
    assert (shown["status"], shown["wanted_power"]) == ("stopped", "stopped")
    assert Event.objects.get(action="compute.instance.power_off").actor == "guest"
    cloud.settle()
    assert cloud.breaches() == []


def test_a_machine_that_keeps_crashing_is_left_alone_after_five_times(cloud, mia, path, body):
    instance = mia.post(path, body).json()["id"]
    cloud.settle()
    for _ in range(6):
        cloud.node.hypervisor.crash(instance)
        cloud.node.look()
        cloud.settle()
    shown = mia.get(f"{path}/web").json()
    assert (shown["status"], shown["wanted_power"]) == ("error", "stopped")
    assert "5 times within an hour" in shown["status_reason"]


def test_placement_names_hosts_to_admins_of_the_cloud_only(cloud, mia, api, cloud_admin, path, body):
    mia.post(path, body)
    cloud.settle()
    mine = mia.get(f"{path}/web/placement").json()
    assert (mine["decision"]["placed"], mine["decision"]["host"]) == (True, None)
    assert "hosts" not in mine["explanation"]
    theirs = api.as_(cloud_admin).get(f"{path}/web/placement").json()
    assert theirs["explanation"]["hosts"][0]["host"]["name"] == "node1"


def test_user_data_is_not_shown_to_viewers(cloud, mia, api, path, body):
    mia.post(path, {**body, "user_data": "#!/bin/sh\n"})
    viewer = api.as_(factories.member(cloud.project, Role.VIEWER))
    assert mia.get(f"{path}/web").json()["user_data"] == "#!/bin/sh\n"
    assert viewer.get(f"{path}/web").json()["user_data"] is None
    assert viewer.post(f"{path}/web/stop", {}).status_code == 403


def test_a_page_of_instances_is_one_query_however_long(
    cloud, mia, path, body, django_assert_max_num_queries, django_assert_num_queries
):
    for number in range(5):
        cloud.launch(name=f"vm-{number}")
    mia.get(path)
    with django_assert_max_num_queries(4) as few:
        assert len(mia.get(path).json()["items"]) == 5
    for number in range(5, 9):
        cloud.launch(name=f"vm-{number}")
    with django_assert_num_queries(len(few)):
        assert len(mia.get(f"{path}?status=launching").json()["items"]) == 9


def test_an_unreachable_host_is_said_so_and_a_delete_does_not_wait_for_ever(cloud, mia, path, body):
    mia.post(path, body)
    cloud.settle()
    cloud.node.online = False
    HostPulse.objects.update(seen_at=Now() - timedelta(seconds=100))
    assert mia.get(f"{path}/web").json()["status"] == "unreachable"
    mia.delete(f"{path}/web?purge=true")
    Operation.objects.filter(finished_at=None).update(started_at=Now() - timedelta(seconds=61))
    cloud.settle()
    assert mia.get(f"{path}/web").status_code == 404
    assert Allocation.objects.count() == 1
    assert Order.objects.filter(answered_at=None, verb="ensure_gone").count() == 1

    cloud.node.online = True
    cloud.node.look()
    cloud.node.heartbeat()
    assert (Allocation.objects.count(), cloud.running(), cloud.breaches()) == (0, set(), [])
