"""Backups whose blocks are in a bucket: what was on a volume comes back, also when the bucket is away meanwhile."""

import pytest

from storage import backing_up, buckets, verifying
from storage.models import Backup, BackupBlock
from storage.services import backups
from storage.store import StoreAway
from tests.storage.clouds import do, placed, reads, settle, write
from tests.storage.test_backups import back_up, restored, with_backups

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def cloud(cloud, in_buckets):
    with_backups(cloud.node)
    return cloud


@pytest.fixture
def keys(in_buckets, settings):
    """The blocks that are in the bucket."""
    name = settings.BACKUP_STORE.split("/")[2]
    return lambda: {key.rpartition("/")[2] for key in in_buckets.keys(name) if key.startswith("back/ups/")}


def test_what_was_on_a_volume_comes_back(cloud, keys):
    volume = placed(cloud)
    write(cloud, volume, 1, "0", "8M")
    first = back_up(cloud, volume)
    write(cloud, volume, 2, "8M")
    second = back_up(cloud, volume)
    assert (first.status, second.status) == ("ready", "ready")
    assert keys() == {str(pk) for pk in BackupBlock.objects.values_list("pk", flat=True)}
    assert len(keys()) == 2
    verifying.verify()
    assert not Backup.objects.filter(verified_at=None).exists()
    was, now = restored(cloud, first), restored(cloud, second)
    assert reads(cloud, was, 0, "8M")
    assert reads(cloud, now, 2, "8M")
    assert reads(cloud, now, 1, "0", "8M")
    assert cloud.breaches() == []
    do(backups.delete, backup=first)
    do(backups.delete, backup=second)
    settle(cloud)
    assert keys() == set()


def test_a_bucket_that_is_away_for_a_while_delays_and_loses_nothing(cloud, monkeypatch, keys):
    """Its host, and the one that restores, try again."""
    failed = []

    def fail_once(name):
        real = getattr(buckets.Bucket, name)

        def call(self, *arguments):
            if name not in failed:
                failed.append(name)
                raise StoreAway("the connection was cut")
            return real(self, *arguments)

        monkeypatch.setattr(buckets.Bucket, name, call)

    volume = placed(cloud)
    write(cloud, volume, 1)
    fail_once("write")
    fail_once("read")
    made = back_up(cloud, volume)
    assert (made.status, made.reason) == ("ready", "")
    assert reads(cloud, restored(cloud, made), 1)
    assert failed == ["write", "read"]


def test_a_bucket_that_is_away_makes_no_backup_damaged(cloud, monkeypatch):
    volume = placed(cloud)
    write(cloud, volume, 1)
    made = back_up(cloud, volume)

    def away(self, *names):
        raise StoreAway("the connection was cut")

    with monkeypatch.context() as failing:
        failing.setattr(buckets.Bucket, "read", away)
        with pytest.raises(StoreAway):
            verifying.verify()
    made.refresh_from_db()
    assert (made.status, made.verified_at) == ("ready", None)
    verifying.verify()
    made.refresh_from_db()
    assert made.verified_at is not None


def test_blocks_that_could_not_be_removed_are_swept(cloud, keys, monkeypatch):
    volume = placed(cloud)
    write(cloud, volume, 1)
    made = back_up(cloud, volume)

    def away(self, *names):
        raise StoreAway("the connection was cut")

    with monkeypatch.context() as failing:
        failing.setattr(buckets.Bucket, "remove", away)
        do(backups.delete, backup=made)
        settle(cloud)
    assert not BackupBlock.objects.exists()
    assert len(keys()) == 1
    assert backing_up.sweep() == 0, "it may have just come"
    monkeypatch.setattr(backing_up, "SECONDS_UNOWNED", -60.0)
    assert backing_up.sweep() == 1
    assert keys() == set()
