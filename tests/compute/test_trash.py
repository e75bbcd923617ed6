"""The trash for instances: stopped, out of memory and networks, they come back as they were."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from cloud import trash
from cloud.costs import sums
from cloud.costs.models import Rental
from cloud.hosts.models import Allocation
from cloud.operations.models import Operation
from cloud.problems import Conflict, Problem
from cloud.tenancy.models import Role
from cloud.tenancy.quota import OverQuota, usage
from compute import services
from compute.models import Flavor, Instance
from storage.models import Attachment, Volume
from storage.services import attaching, volumes
from tests import factories
from tests.storage.clouds import do as do_storage
from tests.storage.clouds import make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def web(cloud):
    """One that runs, and is in the trash then."""
    instance = cloud.launch(name="web")
    cloud.settle()
    cloud.do(services.discard, instance)
    return instance


@pytest.fixture
def mia(api, cloud):
    return api.as_(factories.member(cloud.project, Role.MEMBER, "mia"))


def occupied(instance):
    return Allocation.of("instance", instance.pk).values_list("vcpus", "memory_mib", "disk_gib").get()


def used(cloud):
    return {kind: usage(cloud.project)[kind]["used"] for kind in ("instances", "vcpus", "memory_mib", "disk_gib")}


def test_it_is_stopped_and_keeps_its_disk_alone(cloud, web):
    assert used(cloud) == {"instances": 0, "vcpus": 0, "memory_mib": 0, "disk_gib": web.disk_gib}
    cloud.settle()
    web.refresh_from_db()
    assert (web.seen, occupied(web)) == ("stopped", (0, 0, web.disk_gib))
    assert cloud.breaches() == []


def test_a_trash_full_of_disks_leaves_no_quota_for_more(cloud, web):
    cloud.settle()
    cloud.project.quota.limits |= {"disk_gib": 2 * web.disk_gib - 1}
    cloud.project.quota.save()
    with pytest.raises(OverQuota, match=f"disk_gib: {web.disk_gib} more asked, {web.disk_gib} of"):
        cloud.launch(name="more")
    cloud.do(services.purge, web)
    cloud.settle()
    cloud.launch(name="more")
    assert used(cloud)["disk_gib"] == web.disk_gib


@pytest.mark.parametrize("at_once", [True, False])
def test_it_comes_back_and_runs_again(cloud, web, at_once):
    if not at_once:
        cloud.settle()
    cloud.do(services.restore, web)
    cloud.settle()
    web.refresh_from_db()
    assert (web.trashed_at, web.seen) == (None, "running")
    assert occupied(web) == (web.vcpus, web.memory_mib, web.disk_gib)
    assert used(cloud)["instances"] == 1
    assert cloud.breaches() == []


def test_what_was_stopped_comes_back_stopped(cloud):
    instance = cloud.launch(name="web")
    cloud.settle()
    cloud.do(services.stop, instance)
    cloud.settle()
    cloud.do(services.discard, instance)
    cloud.settle()
    cloud.do(services.restore, instance)
    cloud.settle()
    instance.refresh_from_db()
    assert instance.seen == "stopped"


def test_it_is_seen_in_the_trash_only(cloud, web, mia):
    path = f"projects/{cloud.project.name}/instances"
    assert mia.get(path).json()["items"] == []
    assert mia.get(f"{path}/web").status_code == 404
    [there] = mia.get(f"{path}?trashed=true").json()["items"]
    assert (there["name"], there["trashed_at"] is None) == ("web", False)
    assert mia.post(f"{path}/{web.pk}/stop").status_code == 404
    answer = mia.post(f"projects/{cloud.project.name}/instance-actions", {"verb": "start", "instances": [str(web.pk)]})
    assert answer.json()["items"][0]["problem"]["code"] == "not_found"


def test_its_name_is_free_and_it_comes_back_under_another(cloud, web, mia):
    cloud.launch(name="web")
    cloud.settle()
    path = f"projects/{cloud.project.name}/instances/{web.pk}/restore"
    refused = mia.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert mia.post(path, {"name": "old-web"}).json()["name"] == "old-web"
    cloud.settle()
    assert set(Instance.objects.values_list("name", flat=True)) == {"web", "old-web"}


def test_a_protected_one_is_not_deleted(cloud, mia):
    cloud.launch(name="web")
    cloud.settle()
    path = f"projects/{cloud.project.name}/instances/web"
    assert mia.patch(path, {"protected": True}).json()["protected"] is True
    for query in ("", "?purge=true"):
        refused = mia.delete(f"{path}{query}")
        assert refused.status_code == 409
        assert refused.json()["detail"].startswith("web is protected from being deleted.")
    assert mia.patch(path, {"protected": False}).status_code == 200
    assert mia.delete(path).status_code == 202


def test_automation_deletes_for_good_at_once(cloud, mia):
    cloud.launch(name="web")
    cloud.settle()
    answer = mia.delete(f"projects/{cloud.project.name}/instances/web?purge=true")
    assert (answer.status_code, answer.json()["operation"]["kind"]) == (202, "compute.delete")
    cloud.settle()
    assert not Instance.objects.exists()
    assert cloud.breaches() == []


def test_a_dry_run_of_a_delete_changes_nothing(cloud, mia):
    cloud.launch(name="web")
    cloud.settle()
    for query in ("dry_run=true", "dry_run=true&purge=true"):
        answer = mia.delete(f"projects/{cloud.project.name}/instances/web?{query}")
        assert (answer.status_code, [gone["name"] for gone in answer.json()["plan"]["deleted"]]) == (202, ["web"])
    assert mia.get(f"projects/{cloud.project.name}/instances/web").json()["trashed_at"] is None


def test_when_its_time_is_over_it_is_gone_for_good(cloud, web):
    cloud.settle()
    assert trash.empty() == 0
    Instance.objects.update(trashed_at=Now() - timedelta(hours=25))
    assert (trash.empty(), trash.empty()) == (1, 0)
    cloud.settle()
    assert not Instance.objects.exists()
    assert not Allocation.objects.exists()
    assert cloud.breaches() == []


def test_it_is_purged_when_asked(cloud, web):
    cloud.do(services.purge, web)
    with pytest.raises(Conflict, match="not in the trash"):
        cloud.do(services.restore, web)
    cloud.settle()
    assert not Instance.objects.exists()
    assert cloud.breaches() == []


def test_without_a_trash_what_is_deleted_is_gone(cloud, settings):
    settings.TRASH_HOURS = 0
    instance = cloud.launch()
    cloud.settle()
    cloud.do(services.discard, instance)
    cloud.settle()
    assert not Instance.objects.exists()


def test_a_launch_that_has_not_ended_or_has_failed_does_not_go_there(cloud):
    cloud.do(services.discard, cloud.launch(name="early"))
    cloud.settle()
    cloud.node.hypervisor.broken = "no"
    broken = cloud.launch(name="broken")
    cloud.settle()
    cloud.do(services.discard, broken)
    cloud.settle()
    assert not Instance.objects.exists()


def test_while_its_host_is_away_it_keeps_its_place_and_is_stopped_later(cloud, web):
    cloud.node.online = False
    operation = Operation.objects.get(kind="compute.discard")
    for _ in range(3):
        Operation.objects.update(due_at=Now())
    assert occupied(web) == (web.vcpus, web.memory_mib, web.disk_gib)
    cloud.node.online = True
    cloud.settle()
    operation.refresh_from_db()
    assert (operation.outcome, occupied(web)) == ("done", (0, 0, web.disk_gib))


def test_it_does_not_come_back_where_there_is_no_room(cloud, web):
    cloud.settle()
    host = Instance.objects.get(pk=web.pk).host
    type(host).objects.filter(pk=host.pk).update(free_vcpus=0)
    with pytest.raises(Problem, match="no room for it now"):
        cloud.do(services.restore, web)
    assert Instance.objects.get(pk=web.pk).trashed_at
    type(host).objects.filter(pk=host.pk).update(free_vcpus=host.free_vcpus)


def test_it_costs_nothing_there_and_what_it_did_is_kept(cloud):
    Flavor.objects.update(price_per_hour="0.5")
    cloud.flavor.refresh_from_db()
    instance = cloud.launch(name="web")
    cloud.settle()
    Allocation.objects.update(created_at=Now() - timedelta(minutes=1))
    cloud.do(services.discard, instance)
    assert sums.of(cloud.project).per_hour == 0
    cloud.settle()
    cloud.do(services.restore, instance)
    cloud.settle()
    assert sums.of(cloud.project).per_hour == cloud.flavor.price_per_hour
    cloud.do(services.delete, instance)
    cloud.settle()
    assert Rental.objects.filter(resource_id=instance.pk).count() == 2


def test_volumes_that_go_with_it_come_back_with_it_and_others_are_free(cloud):
    instance = cloud.launch(name="web")
    cloud.settle()
    for name, goes_with in (("scratch", True), ("data", False)):
        volume = make(cloud, name=name)
        cloud.do(services.attach_volume, instance, volume=volume, delete_with_instance=goes_with)
        cloud.settle()
    cloud.do(services.discard, instance)
    cloud.settle()
    assert list(Attachment.objects.values_list("volume__name", flat=True)) == ["scratch"]
    with pytest.raises(Conflict, match="in use"):
        do_storage(volumes.delete, volume=Volume.objects.get(name="scratch"))
    cloud.do(services.restore, instance)
    cloud.settle()
    assert [held.volume.name for held in attaching.held_by("instance", instance.pk)] == ["scratch"]
    cloud.do(services.delete, instance)
    cloud.settle()
    assert set(Volume.objects.values_list("name", flat=True)) == {"data"}
    assert cloud.breaches() == []
