"""The backups of a volume as a month: which days have one, which rule keeps it, and which days are due."""

import calendar
import re
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, date, timedelta
from zoneinfo import ZoneInfo

from django.utils import timezone

from storage.models import Backup, BackupPolicy, Volume
from storage.schedules import Schedule, parse
from storage.services import policies

MAX_LOOKED_AT = 2000  # of a volume's backups, the newest
MONTH = re.compile(r"(\d{4})-(\d\d)")
WEEKDAYS = list(calendar.day_name)
LETTERS = {
    "keep_last": ("L", "one of the last"),
    "keep_hourly": ("H", "newest of its hour"),
    "keep_daily": ("D", "newest of its day"),
    "keep_weekly": ("W", "newest of its week"),
    "keep_monthly": ("M", "newest of its month"),
    "protected": ("P", "protected"),
    "by hand": ("B", "made by hand"),
    "none": ("–", "no rule keeps it"),
    Backup.Status.MAKING: ("…", "not ready yet"),
    Backup.Status.FAILED: ("×", "nothing to restore"),
}


@dataclass(frozen=True)
class Entry:
    """One backup, with the letters of what keeps it and the words for them."""

    backup: Backup
    at: str  # hours and minutes
    letters: str
    words: str


@dataclass
class Day:
    """`is_due`: a backup will be made, by the schedule."""

    date: date
    is_in_month: bool
    is_today: bool
    is_due: bool
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Month:
    """Weeks from Monday on. `before` and `after` name the months beside it, as `?month=` takes them."""

    first: date
    zone: str
    weeks: list[list[Day]]
    before: str
    after: str
    legend: list[tuple[str, str]]
    weekdays = WEEKDAYS


def calendar_of(volume: Volume, month: str) -> Month | None:
    """The month that is named like 2026-11, otherwise this one; in the time zone of the volume's policy. None: it has
    neither backups nor a policy.
    """
    policy: BackupPolicy | None = getattr(volume, "backup_policy", None)
    made = list(Backup.objects.filter(volume=volume).order_by("-created_at")[:MAX_LOOKED_AT])
    if policy is None and not made:
        return None
    name = policy.time_zone if policy else "UTC"
    zone = ZoneInfo(name)
    today = timezone.now().astimezone(zone).date()
    first = _first_of(month) or today.replace(day=1)
    days = _days(first, today, policy)
    keep = policies.kept_by(policy, policies.prunable(made)) if policy else {}
    for backup in reversed(made):
        at = backup.created_at.astimezone(zone)
        if day := days.get(at.date()):
            day.entries.append(_entry(backup, f"{at:%H:%M}", keep.get(backup.pk, [])))
    weeks = [list(days.values())[start : start + 7] for start in range(0, len(days), 7)]
    used = {letter for day in days.values() for one in day.entries for letter in one.letters}
    legend = [(letter, words) for letter, words in LETTERS.values() if letter in used]
    before, after = first - timedelta(days=1), first + timedelta(days=31)
    return Month(first, name, weeks, f"{before:%Y-%m}", f"{after:%Y-%m}", legend)


def _first_of(month: str) -> date | None:
    found = MONTH.fullmatch(month)
    if not found or not 1 <= int(found[2]) <= 12 or not MINYEAR < int(found[1]) < MAXYEAR:
        return None
    return date(int(found[1]), int(found[2]), 1)


def _days(first: date, today: date, policy: BackupPolicy | None) -> dict[date, Day]:
    schedule: Schedule | None = parse(policy.schedule) if policy and policy.enabled else None
    found = {}
    for day in calendar.Calendar().itermonthdates(first.year, first.month):
        is_due = schedule is not None and day > today and schedule.fits(day)
        if policy and policy.enabled and policy.next_at:
            is_due = is_due or policy.next_at.astimezone(ZoneInfo(policy.time_zone)).date() == day
        found[day] = Day(day, day.month == first.month, day == today, is_due)
    return found


def _entry(backup: Backup, at: str, rules: list[str]) -> Entry:
    rules = [*rules, *(["protected"] if backup.protected else []), *([] if backup.scheduled else ["by hand"])]
    if backup.status in LETTERS:
        rules = [backup.status]
    keeps = [LETTERS[rule] for rule in rules or ["none"]]
    return Entry(backup, at, "".join(letter for letter, _ in keeps), ", ".join(words for _, words in keeps))
