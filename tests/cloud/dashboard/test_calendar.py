"""The calendar of a volume's backups: each day says what it has and why that stays, to eyes and to screen readers."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from storage.models import Backup, Volume
from storage.pages.calendars import calendar_of
from storage.services import policies, volumes
from tests.cloud.dashboard.conftest import ALICE

NIGHTLY = {"schedule": "0 3 * * *", "time_zone": "Europe/Berlin", "keep_daily": 1, "keep_monthly": 2}


def volume_with(world, *moments, **facts):
    with transaction.atomic():
        volume = volumes.create(project=world.project, actor=ALICE, name="data", size_gib=1)
        policies.set_policy(volume=volume, actor=ALICE, **NIGHTLY)
    for number, moment in enumerate(moments):
        told = {"status": "ready", "finished_at": moment, "scheduled": True, **facts}
        made = Backup.objects.create(
            project=world.project, name=f"data-{number}", volume=volume, of={"id": str(volume.pk), "name": "data"},
            size_gib=1, created_by="alice", **told,
        )  # fmt: skip
        Backup.objects.filter(pk=made.pk).update(created_at=moment)
    return Volume.objects.select_related("backup_policy").get(pk=volume.pk)


def days_of(calendar):
    return {day.date.isoformat(): day for week in calendar.weeks for day in week}


@pytest.mark.django_db
def test_each_day_says_which_rule_keeps_its_backup(world):
    old = [datetime(2024, 2, 10, 2, tzinfo=UTC), datetime(2024, 2, 29, 23, 30, tzinfo=UTC)]
    volume = volume_with(world, *old)
    february, march = days_of(calendar_of(volume, "2024-02")), days_of(calendar_of(volume, "2024-03"))
    [first] = february["2024-02-10"].entries
    assert (first.letters, first.words, first.at) == ("M", "newest of its month", "03:00")
    [second] = march["2024-03-01"].entries  # in Berlin
    assert (second.letters, second.at) == ("DM", "00:30")
    Backup.objects.filter(name="data-0").update(status="failed")
    [failed] = days_of(calendar_of(volume, "2024-02"))["2024-02-10"].entries
    assert failed.letters == "×"
    assert calendar_of(volume, "2024-02").after == "2024-03"
    assert not any(day.is_due for day in february.values())


@pytest.mark.django_db
def test_days_to_come_say_that_they_are_due_and_nonsense_shows_this_month(world):
    volume = volume_with(world)
    calendar = calendar_of(volume, "2024-13")
    today = timezone.now().date()
    assert any(day.is_today for day in days_of(calendar).values())
    later = days_of(calendar_of(volume, f"{today + timedelta(days=62):%Y-%m}"))
    assert all(day.is_due for day in later.values())
    Volume.objects.get(pk=volume.pk).backup_policy.delete()
    assert calendar_of(Volume.objects.get(pk=volume.pk), "") is None


@pytest.mark.django_db
def test_the_page_of_a_volume_has_it_as_a_table(world, page_of, member):
    volume = volume_with(world, timezone.now(), protected=True)
    shown = page_of(member).get(f"/projects/demo/volumes/{volume.pk}").content.decode()
    assert "<caption>" in shown
    assert shown.count('scope="col"><span aria-hidden="true">') == 7
    assert 'aria-current="date"' in shown
    assert "data-0 at " in shown
    assert "newest of its day, newest of its month, protected" in shown
    before = page_of(member).get(f"/projects/demo/volumes/{volume.pk}?month=2001-01").content.decode()
    assert "January 2001" in before
    assert "2000-12" in before
