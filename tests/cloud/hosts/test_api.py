"""Hosts and join tokens, for admins of the cloud."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from cloud.events.models import Event
from cloud.hosts.models import HostPulse, JoinToken
from compute.models import Instance
from tests import factories


def test_a_join_token_is_shown_once_and_revoked(api, cloud_admin):
    admin = api.as_(cloud_admin)
    made = admin.post("hosts/join-tokens", {})
    assert made.status_code == 201
    assert made.json()["secret"].startswith("pileus-join-")
    assert (made.json()["usable"], made.json()["created_by"]) == (True, "root")
    listed = admin.get("hosts/join-tokens").json()["items"][0]
    assert "secret" not in listed
    assert admin.delete(made["Location"]).status_code == 204
    assert not JoinToken.objects.exists()
    actions = list(Event.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["hosts.join_token.create", "hosts.join_token.delete"]


def test_a_host_shows_capacity_and_whether_it_is_heard(api, cloud_admin):
    host = factories.host("node1")
    admin = api.as_(cloud_admin)
    shown = admin.get("hosts/node1").json()
    assert (shown["status"], shown["free_vcpus"], shown["vcpus"]) == ("ready", 32, 8)
    HostPulse.objects.update(seen_at=Now() - timedelta(minutes=2))
    assert admin.get("hosts/node1").json()["status"] == "unreachable"
    assert [item["name"] for item in admin.get("hosts?status=unreachable").json()["items"]] == ["node1"]
    assert admin.get(f"hosts/{host.pk}").status_code == 200


def test_a_host_runs_machines_in_the_ways_that_it_offers(api, cloud_admin):
    factories.host("node1", offers=["drill", "export-ova", "images", "qemu/x86_64", "qemu/x86_64/tcg"])
    assert api.as_(cloud_admin).get("hosts/node1").json()["runs"] == ["qemu/x86_64", "qemu/x86_64/tcg"]


def test_drain_and_enable(api, cloud_admin):
    factories.host("node1")
    admin = api.as_(cloud_admin)
    assert admin.post("hosts/node1/cordon").json()["status"] == "disabled"
    assert admin.post("hosts/node1/enable").json()["enabled"] is True
    assert Event.objects.count() == 2


def test_overcommit_and_labels_are_changed_and_capacity_is_not(api, cloud_admin):
    factories.host("node1")
    admin = api.as_(cloud_admin)
    changed = admin.patch("hosts/node1", {"vcpu_overcommit": 2, "labels": {"rack": "a"}}).json()
    assert (changed["free_vcpus"], changed["labels"]) == (16, {"rack": "a"})
    faults = admin.patch("hosts/node1", {"vcpus": 1000, "free_vcpus": 1, "vcpu_overcommit": 1e9}).json()["errors"]
    assert {fault["pointer"] for fault in faults} == {"/vcpus", "/free_vcpus", "/vcpu_overcommit"}


def test_a_host_that_holds_something_stays(api, cloud_admin, project):
    host = factories.host("node1")
    instance = Instance.objects.create(
        project=project, name="web", flavor=factories.flavor(), vcpus=1, memory_mib=64, disk_gib=1,
        image=factories.image(), created_by="x",
    )  # fmt: skip
    factories.place(instance, host)
    admin = api.as_(cloud_admin)
    refused = admin.delete("hosts/node1")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    instance.delete()
    assert admin.delete("hosts/node1").status_code == 204


@pytest.mark.parametrize("who", ["viewer", "project_admin", "other_tenant"])
def test_tenants_learn_nothing_of_hosts(api, request, who):
    factories.host("node1")
    client = api.as_(request.getfixturevalue(who))
    for method, path in (
        ("get", "hosts"), ("get", "hosts/node1"), ("get", "hosts/nothing"), ("patch", "hosts/node1"),
        ("delete", "hosts/node1"), ("post", "hosts/node1/cordon"), ("post", "hosts/join-tokens"),
        ("get", "hosts/join-tokens"),
    ):  # fmt: skip
        assert getattr(client, method)(path).status_code == 403
