"""Snapshots of instances: all of their disks are kept, or none."""

import pytest
from django.db import transaction

from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy.models import Quota
from compute import services
from compute.models import Instance
from storage.models import Image, Snapshot
from tests import factories
from tests.clouds import ALICE, SmallCloud
from tests.storage.clouds import kind_of, settle
from tests.storage.scenarios import make_images

pytestmark = pytest.mark.django_db(transaction=True)
SIZES = [{"size_gib": 1, "name": "data"}, {"size_gib": 1, "name": "logs"}]


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def cloud(short_path):
    made = SmallCloud(short_path)
    kind_of(made)
    make_images(made)
    return made


@pytest.fixture
def mia(cloud, api):
    return api.as_(factories.member(cloud.project))


@pytest.fixture
def web(cloud, mia):
    """A stopped instance with two volumes."""
    body = {"name": "web", "flavor": cloud.flavor.name, "image": cloud.image.name, "volumes": SIZES}
    assert mia.post(f"projects/{cloud.project.name}/instances", body).status_code == 202
    settle(cloud)
    cloud.do(services.stop, Instance.objects.get())
    settle(cloud)
    return Instance.objects.get()


@pytest.fixture
def snapshot(cloud, mia):
    def take(status=202, query="", name="may"):
        answer = mia.post(f"projects/{cloud.project.name}/instances/web/snapshot{query}", {"name": name})
        assert answer.status_code == status, answer.data
        return answer.data

    return take


def kept():
    return set(Snapshot.objects.values_list("name", flat=True)), set(Image.objects.filter(source__kind="instance"))


def test_all_of_its_disks_are_kept(cloud, web, snapshot):
    operation = snapshot()["operation"]
    settle(cloud)
    taken, [image] = kept()
    assert taken == {"may-data", "may-logs"}
    assert (image.name, image.source["name"]) == ("may", "web")
    assert not Snapshot.objects.filter(consistency="").exists()
    ended = Operation.objects.get(pk=operation["id"])
    assert (ended.kind, ended.outcome) == ("compute.snapshot", "done")
    assert ended.parameters["image"] == str(image.pk)
    assert cloud.breaches() == []


def test_a_dry_run_keeps_nothing(cloud, web, snapshot):
    snapshot(query="?dry_run=true")
    assert kept() == (set(), set())


def test_of_one_that_boots_from_a_volume_there_are_only_snapshots(cloud, web, snapshot):
    web_root = web.project.volumes.get(name="data").attachments.get()
    web_root.slot = 0
    web_root.save()
    snapshot()
    settle(cloud)
    assert kept() == ({"may-data", "may-logs"}, set())


def test_when_one_cannot_be_kept_none_is(cloud, web, snapshot):
    operation = snapshot()["operation"]["id"]
    logs = web.project.volumes.get(name="logs")
    of_logs = Operation.objects.get(subject_id=logs.pk, finished_at=None)
    with transaction.atomic():
        engine.cancel(of_logs.pk, actor=ALICE)
    settle(cloud)
    settle(cloud)
    ended = Operation.objects.get(pk=operation)
    assert (ended.outcome, ended.reason) == ("failed", "Not all of its volumes could be set aside.")
    assert kept() == (set(), set())
    assert cloud.breaches() == []


def test_why_it_is_refused_with_nothing_made(cloud, web, snapshot):
    Quota.objects.filter(project=cloud.project).update(limits={"snapshots": 1, "images": 0})
    refused = snapshot(status=403)
    assert {over["kind"]: over["asked"] for over in refused["quota"]} == {"snapshots": 2, "images": 1}
    Quota.objects.filter(project=cloud.project).update(limits={})
    snapshot(status=400, name="m" * 41)
    snapshot()
    settle(cloud)
    snapshot(status=409)
    assert len(kept()[0]) == 2
