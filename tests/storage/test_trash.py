"""The trash: what was deleted comes back with its bytes and its snapshots, until its time is over."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from cloud.problems import Conflict
from cloud.tenancy.quota import usage
from cloud.trash import empty
from storage.models import Snapshot, Volume
from storage.services import attaching, trash, volumes
from storage.services.attaching import Holder
from storage.services.volumes import WrongState
from tests.storage.clouds import do, files, placed, reads, settle, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def trashed(cloud):
    """A volume with something on it and with a snapshot, in the trash."""
    volume = placed(cloud, name="data")
    write(cloud, volume, 5)
    do(volumes.snapshot, volume=volume, name="before")
    settle(cloud)
    return do(trash.discard, volume=volume, cascade=True)


def used(cloud):
    return {kind: usage(cloud.project)[kind]["used"] for kind in ("volumes", "volume_gib", "snapshots")}


def test_it_counts_in_space_only_and_comes_back_as_it_was(cloud, trashed):
    assert used(cloud) == {"volumes": 0, "volume_gib": 1, "snapshots": 0}
    do(trash.restore, volume=trashed)
    assert used(cloud) == {"volumes": 1, "volume_gib": 1, "snapshots": 1}
    assert reads(cloud, trashed, 5)
    assert Snapshot.objects.get().name == "before"
    assert cloud.breaches() == []


def test_its_name_is_free_and_it_comes_back_under_another(cloud, trashed):
    placed(cloud, name="data")
    with pytest.raises(IntegrityError):
        do(trash.restore, volume=trashed)
    assert do(trash.restore, volume=trashed, name="old-data").name == "old-data"


def test_when_its_time_is_over_it_is_gone_for_good(cloud, trashed):
    empty()
    assert Volume.objects.exists()
    Volume.objects.update(trashed_at=Now() - timedelta(hours=25))
    empty()
    empty()
    settle(cloud)
    assert not Volume.objects.exists()
    assert files(cloud) == set()
    assert cloud.breaches() == []


def test_it_is_deleted_for_good_at_once_when_asked(cloud, trashed):
    do(trash.purge, volume=trashed)
    with pytest.raises(Conflict, match="not in the trash"):
        do(trash.restore, volume=trashed)
    settle(cloud)
    assert files(cloud) == set()


def test_what_is_in_the_trash_is_not_attached(cloud, trashed):
    with pytest.raises(WrongState, match="in the trash"):
        do(attaching.attach, volume=trashed, holder=Holder("machine", trashed.pk, "web"))


def test_without_a_trash_what_is_deleted_is_gone(cloud, settings):
    settings.TRASH_HOURS = 0
    do(trash.discard, volume=placed(cloud))
    settle(cloud)
    assert not Volume.objects.exists()
    with transaction.atomic():
        assert empty() == 0
