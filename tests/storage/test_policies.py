"""Scheduled backups begin in time, whatever the clock does; those stay that rules keep; what cannot begin is said."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from cloud.hosts.models import Host
from cloud.operations.models import Operation
from storage.models import Backup, BackupPolicy, Layer, Volume
from storage.schedules import NoSchedule, next_after
from storage.services import policies, trash, volumes
from storage.troubles import late_backups
from tests import factories
from tests.clouds import ALICE
from tests.good_requests import finish
from tests.storage.good_requests import backup

NIGHTLY = {"schedule": "0 3 * * *", "time_zone": "Europe/Berlin", "keep_daily": 2}


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "then"),
    [
        ("0 3 * * *", "UTC", "2026-03-01 03:00", "2026-03-02 03:00"),
        ("0 3 * * *", "Europe/Berlin", "2026-01-10 12:00", "2026-01-11 02:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:30"),  # that night has no 02:30
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 00:30"),  # it has two
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30", "2026-10-26 01:30"),
        ("15 */6 * * *", "UTC", "2026-01-01 06:16", "2026-01-01 12:15"),
        ("0 0 1 * *", "UTC", "2026-01-15 00:00", "2026-02-01 00:00"),
        ("0 1 * * mon-fri", "UTC", "2026-01-02 02:00", "2026-01-05 01:00"),
        ("0 0 13 * 5", "UTC", "2026-02-07 00:00", "2026-02-13 00:00"),  # a Friday, and the 13th
        ("0 0 14 * 5", "UTC", "2026-02-13 00:00", "2026-02-14 00:00"),  # either of them
        ("0 0 * * 7", "UTC", "2026-02-02 00:00", "2026-02-08 00:00"),  # a Sunday by its other number
        ("0 0 * * 5-7", "UTC", "2026-02-07 00:00", "2026-02-08 00:00"),
        ("0 0 31 2 1", "UTC", "2026-02-03 00:00", "2026-02-09 00:00"),  # the weekday comes
        ("0 0 29 2 *", "UTC", "2026-01-01 00:00", "2028-02-29 00:00"),
    ],
)
def test_the_next_time_of_a_schedule(schedule, zone, now, then):
    assert next_after(schedule, zone, at(now)) == at(then)


@pytest.mark.parametrize("schedule", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 feb *"])
def test_a_day_that_never_comes(schedule, api, member, volume):
    assert next_after(schedule, "UTC", at("2026-01-01 00:00")) is None
    body = {"schedule": schedule, "keep_last": 1}
    refused = api.as_(member).post("projects/demo/volumes/data/schedule-backups", body)
    assert refused.status_code == 400
    assert "never come" in str(refused.data["errors"])


@pytest.mark.parametrize("schedule", ["", "nightly", "0 3 * *", "60 3 * * *", "0 24 * * *", "0 0 32 * *", "* * * * *"])
def test_what_is_no_schedule(schedule):
    with pytest.raises(NoSchedule):
        next_after(schedule, "UTC", at("2026-01-01 00:00"))


def test_which_backups_stay():
    policy = BackupPolicy(time_zone="Europe/Berlin", keep_last=1, keep_daily=3, keep_weekly=2, keep_monthly=2)
    first = at("2026-03-01 02:00")
    made = [Backup(created_at=first + timedelta(hours=12 * number)) for number in range(62)][::-1]
    stay = policies.kept_by(policy, made)
    days = sorted(one.created_at.isoformat()[:13] for one in made if one.pk in stay)
    assert days == ["2026-03-29T14", "2026-03-30T14", "2026-03-31T14"]  # two weeks and a month end here, too
    del made[:4]
    days = sorted(one.created_at.isoformat()[:13] for one in made if one.pk in policies.kept_by(policy, made))
    assert days == ["2026-03-22T14", "2026-03-27T14", "2026-03-28T14", "2026-03-29T14"]


@pytest.fixture
def volume(project):
    """One that can be backed up."""
    made = volumes.create(project=project, actor=ALICE, name="data", size_gib=1)
    host = factories.host(capabilities={"images": {"backup": True}}, free_disk_gib=200)
    Layer.objects.filter(pk=made.active_id).update(host=host)
    return Volume.objects.get(pk=made.pk)


def due(volume, **facts):
    policies.set_policy(volume=volume, actor=ALICE, **{**NIGHTLY, **facts})
    BackupPolicy.objects.update(next_at=Now())


@pytest.mark.django_db
def test_a_backup_begins_when_its_time_has_come_and_once(volume):
    policies.set_policy(volume=volume, actor=ALICE, **NIGHTLY)
    assert policies.run_due() == 0
    BackupPolicy.objects.update(next_at=Now())
    assert policies.run_due() == 1
    assert policies.run_due() == 0
    made = Backup.objects.get()
    assert (made.volume, made.scheduled, made.status) == (volume, True, "making")
    assert BackupPolicy.objects.get().next_at > timezone.now()


@pytest.mark.django_db
def test_what_cannot_begin_is_said_and_tried_again(volume):
    due(volume)
    Host.objects.update(free_disk_gib=0)
    volume.project.quota.limits = {"backups": 0}
    volume.project.quota.save()
    assert policies.run_due() == 0
    [case] = late_backups()[1]
    assert (case.name, case.project) == ("data", "demo")
    assert "backups: 1 more asked" in case.words
    since = case.since
    assert policies.run_due() == 0
    assert late_backups()[1][0].since == since
    volume.project.quota.limits = {}
    volume.project.quota.save()
    Host.objects.update(free_disk_gib=200)
    assert policies.run_due() == 1
    assert late_backups() == (0, [])


@pytest.mark.django_db
def test_nothing_begins_for_what_is_in_the_trash_switched_off_or_written_nowhere(volume):
    due(volume, enabled=False)
    assert policies.run_due() == 0
    due(volume)
    Volume.objects.update(trashed_at=Now())
    assert policies.run_due() == 0
    Volume.objects.update(trashed_at=None)
    Layer.objects.update(host=None)
    assert policies.run_due() == 0
    assert late_backups() == (0, [])


@pytest.mark.django_db
def test_a_policy_rests_in_the_trash_comes_back_and_goes_with_its_volume(volume):
    due(volume)
    trash.discard(volume=volume, actor=ALICE)
    assert policies.run_due() == 0
    assert BackupPolicy.objects.filter(volume=volume).exists()
    trash.restore(volume=volume, actor=ALICE)
    policy = BackupPolicy.objects.get(volume=volume)
    assert policy.next_at > timezone.now(), "what it missed in the trash is not made up for at once"
    trash.discard(volume=volume, actor=ALICE, purge=True)
    finish("volume")
    Volume.objects.filter(pk=volume.pk).delete()
    assert not BackupPolicy.objects.exists()


@pytest.mark.django_db
def test_scheduled_backups_are_pruned_and_no_others(volume):
    policies.set_policy(volume=volume, actor=ALICE, **NIGHTLY)
    for days in range(5):
        made = backup(volume.project)
        facts = {"volume": volume, "created_at": timezone.now() - timedelta(days=days), "name": f"night-{days}"}
        Backup.objects.filter(pk=made.pk).update(scheduled=True, protected=days == 4, **facts)
    by_hand = backup(volume.project)
    Backup.objects.filter(pk=by_hand.pk).update(volume=volume, created_at=timezone.now() - timedelta(days=9))
    assert policies.prune() == 2
    going = Operation.objects.filter(kind="storage.delete_backup").values_list("subject_name", flat=True)
    assert set(going) == {"night-2", "night-3"}


@pytest.mark.django_db
def test_a_policy_by_the_api(api, member, volume):
    client, where = api.as_(member), "projects/demo/volumes/data"
    told = client.post(f"{where}/schedule-backups", {"schedule": "* 3 * *", "time_zone": "Mars/Olympus"})
    assert told.status_code == 400
    assert {fault["pointer"] for fault in told.json()["errors"]} == {"/schedule", "/time_zone"}
    told = client.post(f"{where}/schedule-backups", {"schedule": "0 3 * * *"})
    assert (told.status_code, "keep_daily" in str(told.json())) == (400, True)
    body = {"schedule": "0 3 * * *", "time_zone": "Europe/Berlin", "keep_daily": 7}
    told = client.post(f"{where}/schedule-backups", body)
    assert told.status_code == 200
    assert client.get(where).json()["backup_policy"]["keep_daily"] == 7
    assert client.post(f"{where}/unschedule-backups").json()["backup_policy"] is None
