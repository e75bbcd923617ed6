"""The pages of the cloud's admins."""

import re

import pytest

from cloud.events.models import Event
from cloud.hosts.models import JoinToken
from cloud.operations.models import Operation
from cloud.tenancy.models import Project, User
from compute.models import Flavor
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(page_of, cloud_admin):
    return page_of(cloud_admin)


def test_a_host_is_cordoned_and_enabled(root, world):
    for verb, enabled in (("cordon", False), ("enable", True)):
        assert root.post(f"/cloud/hosts/{world.host.pk}/change", {"verb": verb}).status_code == 303
        world.host.refresh_from_db()
        assert world.host.enabled is enabled


def test_a_host_that_holds_something_is_not_removed(root, world):
    answer = root.post(f"/cloud/hosts/{world.host.pk}/change", {"verb": "remove"})
    assert answer.status_code == 409
    assert b"still holds" in answer.content
    assert b"It holds 1 instance." in root.get(f"/cloud/hosts/{world.host.pk}").content


def test_a_join_token_comes_as_the_command_to_paste(root, settings):
    answer = root.post("/cloud/hosts/new")
    assert re.search(rf"pileus-agent join {re.escape(settings.PUBLIC_URL)} pileus-join-\S+", answer.content.decode())
    assert JoinToken.objects.get().created_by == "root"


def test_a_join_token_that_nobody_has_used_is_revoked(root):
    root.post("/cloud/hosts/new")
    token = JoinToken.objects.get()
    there = f"/cloud/hosts/join-tokens/{token.pk}/revoke"
    assert there in root.get("/cloud/hosts/new").content.decode()
    assert root.post(there).status_code == 303
    assert there not in root.get("/cloud/hosts/new").content.decode()
    assert root.post(there).status_code == 404


def test_what_a_host_sells_and_its_labels_are_set(root, world):
    path = f"/cloud/hosts/{world.host.pk}/settings"
    assert root.post(path, {"vcpu_overcommit": "2.5", "labels": "rack=a3"}).status_code == 303
    world.host.refresh_from_db()
    assert (world.host.vcpu_overcommit, world.host.labels) == (2.5, {"rack": "a3"})
    for wrong in ("0", "100", "lots", ""):
        answer = root.post(path, {"vcpu_overcommit": wrong, "labels": ""})
        assert answer.status_code == 400
        assert b'id="faults-vcpu_overcommit"' in answer.content


def test_what_confines_emulators_is_told_and_why_something_of_it_does_not(root, world):
    path = f"/cloud/hosts/{world.host.pk}"
    world.host.capabilities = {"jail": {"uid": True, "cgroup": "v2", "no_new_privileges": True, "missing": {}}}
    world.host.save()
    text = root.get(path).content.decode()
    assert re.findall(r'<span class="pill (\w+)">([^<]+)</span>', text) == [
        ("good", "in service"), ("good", "uid"), ("good", "cgroup v2"), ("good", "no new privileges"),
    ]  # fmt: skip
    world.host.capabilities = {"jail": {"uid": False, "missing": {"uid": "the agent is not root"}}}
    world.host.save()
    text = root.get(path).content.decode()
    assert '<span class="pill warn">uid</span>' in text
    assert "No uid: the agent is not root" in text


def test_capacity_and_capabilities_are_shown(root, world):
    world.host.capabilities = {
        "cpu_model": "AMD EPYC", "hypervisors": {"qemu": {"version": "7.2", "architectures": {
            "x86_64": {"accelerator": "tcg", "kvm": "/dev/kvm is missing"}}}}, "jail": {"uid": True, "cgroup": None},
    }  # fmt: skip
    world.host.save()
    text = root.get(f"/cloud/hosts/{world.host.pk}").content.decode()
    for words in ("AMD EPYC", "No KVM: /dev/kvm is missing", "cgroup", 'aria-valuetext="1 of 32"'):
        assert words in text


def test_a_flavor_is_made_changed_and_deleted(root):
    size = {
        "name": "giant",
        "vcpus": "8",
        "memory_mib": "8192",
        "disk_gib": "50",
        "price_per_hour": "0.25",
        "enabled": "on",
    }
    assert root.post("/cloud/flavors", size).status_code == 303
    giant = Flavor.objects.get(name="giant")
    assert root.post(f"/cloud/flavors/{giant.pk}", {**size, "vcpus": "16"}).status_code == 303
    giant.refresh_from_db()
    assert giant.vcpus == 16
    assert root.post(f"/cloud/flavors/{giant.pk}/delete").status_code == 303
    assert not Flavor.objects.exists()


def test_all_faults_of_a_flavor_are_named_at_once(root):
    answer = root.post("/cloud/flavors", {"name": "No", "vcpus": "0", "memory_mib": "many", "disk_gib": ""})
    text = answer.content.decode()
    assert answer.status_code == 400
    assert {f"faults-{name}" for name in ("name", "vcpus", "memory_mib", "disk_gib")} <= set(
        re.findall(r'id="([^"]+)"', text)
    )


def test_a_flavor_in_use_is_not_deleted(root, world):
    answer = root.post(f"/cloud/flavors/{world.flavor.pk}/delete")
    assert answer.status_code == 409
    assert b"It is in use by 1 instance" in answer.content


def test_a_project_is_made_with_its_admin_and_gets_a_quota(root):
    factories.user("nia")
    answer = root.post("/cloud/projects", {"name": "lab", "admin": "nia"})
    lab = Project.objects.get(name="lab")
    assert answer["Location"] == f"/cloud/projects/{lab.pk}"
    fields = dict(re.findall(r'name="(\w+)" value="(\d*)"', root.get(answer["Location"]).content.decode()))
    root.post(answer["Location"], {**fields, "vcpus": "7", "memory_mib": ""})
    lab.quota.refresh_from_db()
    assert (lab.quota.limits["vcpus"], lab.quota.limits["memory_mib"]) == (7, None)
    assert lab.quota.limits["instances"] == 20


def test_a_limit_below_use_is_a_fault_of_its_field(root, world):
    answer = root.post(f"/cloud/projects/{world.project.pk}", {"instances": "0"})
    assert answer.status_code == 409
    assert b'id="faults-instances"' in answer.content


def test_only_an_empty_project_is_deleted(root, world):
    assert root.post(f"/cloud/projects/{world.project.pk}", {"verb": "delete"}).status_code == 409
    empty = factories.project("empty")
    assert root.post(f"/cloud/projects/{empty.pk}", {"verb": "delete"}).status_code == 303


def test_a_user_is_made_with_a_password_shown_once(root):
    answer = root.post("/cloud/users", {"username": "nia", "full_name": "Nia"})
    password = re.search(r"<pre>([^<]+)</pre>", answer.content.decode())[1]  # type: ignore[index]
    assert User.objects.get(username="nia").check_password(password)
    assert password not in root.get("/cloud/users").content.decode()


def test_a_user_is_changed_and_deactivated(root, member):
    here = f"/cloud/users/{member.pk}"
    assert root.post(here, {"full_name": "Mia M.", "email": "", "is_active": "on"}).status_code == 303
    member.refresh_from_db()
    assert (member.full_name, member.is_active) == ("Mia M.", True)
    assert root.post(here, {"full_name": "Mia M.", "email": ""}).status_code == 303
    member.refresh_from_db()
    assert not member.is_active


def test_the_last_admin_of_the_cloud_stays(root, cloud_admin):
    answer = root.post(f"/cloud/users/{cloud_admin.pk}", {"full_name": "", "email": "", "is_active": "on"})
    assert answer.status_code == 409
    assert b"is the only active admin of the cloud" in answer.content


def test_operations_of_all_projects_are_shown_and_cancelled(root, world):
    operation = Operation.objects.get(subject_id=world.launch("slow").pk)
    assert b"Launching slow" in root.get("/cloud/operations").content
    assert root.post("/cloud/operations", {"operation": str(operation.pk)}).status_code == 303
    operation.refresh_from_db()
    assert operation.cancel_requested_by == "root"


@pytest.mark.parametrize("sent", ["", "nonsense", "00000000-0000-4000-8000-000000000000"])
def test_cancelling_nothing_is_refused(root, sent):
    assert root.post("/cloud/operations", {"operation": sent}).status_code in (400, 404)


def test_audit_shows_every_project(root, world):
    text = root.get("/cloud/audit").content.decode()
    assert "launched the instance" in text
    assert "in demo" in text


def test_the_way_around_keeps_the_project_that_was_looked_at(root, world):
    root.get(f"/projects/{world.project.name}/instances")
    text = root.get("/cloud/hosts").content.decode()
    assert f'href="/projects/{world.project.name}/keypairs"' in text
    assert 'data-events="/api/v1/events?' in text


def test_audit_shows_the_log_as_it_was(root, world):
    Event.objects.bulk_create(
        Event(action="compute.instance.stop", subject_type="instance", subject_id="x", subject_name=name, actor="ada",
              transaction=number, at=f"2020-01-0{number} 12:00Z")
        for number, name in enumerate(("one", "two", "three"), 1)
    )  # fmt: skip
    text = root.get("/cloud/audit", {"as_of": "2020-01-02T12:00"}).content.decode()
    assert re.findall(r'<span class="strong">(\w+)</span></span>', text) == ["two", "one"]
    assert 'value="2020-01-02T12:00"' in text
    assert "two" in root.get("/cloud/audit", {"as_of": "nonsense", "subject": "two"}).content.decode()


def test_the_page_of_a_host_shows_what_it_uses_beside_what_is_allocated(root, world):
    path = f"/cloud/hosts/{world.host.pk}"
    assert "Not known: the host is not heard from." in root.get(path).content.decode()
    load = {"cpu_percent": 42, "memory_mib": 700, "memory_total_mib": 1000, "disk_gib": 3.5, "disk_total_gib": 10}
    world.host.pulse.load = load
    world.host.pulse.save()
    text = root.get(path).content.decode()
    assert 'aria-valuetext="42 % of 100 %"' in text
    assert 'aria-valuetext="700 MiB of 1000 MiB"' in text
    assert f'data-metrics="/api/v1/hosts/{world.host.pk}/metrics"' in text


def test_the_list_of_hosts_says_what_runs_machines_there(page_of, cloud_admin):
    factories.host("node7", offers=["drill", "export-ova", "images", "qemu/x86_64", "qemu/x86_64/tcg"])
    page = page_of(cloud_admin).get("/cloud/hosts").content.decode()
    assert 'title="qemu/x86_64/tcg">qemu</td>' in page
    assert "export-ova" not in page
