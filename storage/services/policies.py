"""Policies of backups: when a volume is backed up by itself, and which of these backups stay."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from cloud.events.services import SYSTEM, Actor, record
from cloud.problems import Conflict, Problem
from storage.models import Backup, BackupPolicy, Volume
from storage.schedules import next_after
from storage.services import backups
from storage.services.volumes import locked

RULES: dict[str, Callable[[datetime], object]] = {
    "keep_hourly": lambda at: (at.date(), at.hour),
    "keep_daily": lambda at: at.date(),
    "keep_weekly": lambda at: at.isocalendar()[:2],
    "keep_monthly": lambda at: (at.year, at.month),
}
NAME_LENGTH = 48  # of the volume, in the name of a backup
AT_ONCE = 100


def set_policy(*, volume: Volume, actor: Actor, schedule: str, time_zone: str, **rules: Any) -> Volume:
    """Back a volume up by this schedule from now on. `rules`: the columns `keep_…` and `enabled`."""
    volume = locked(volume)
    now = timezone.now()
    facts = {"schedule": schedule, "time_zone": time_zone, **rules}
    told = {**facts, "next_at": next_after(schedule, time_zone, now), "problem": "", "problem_since": None}
    BackupPolicy.objects.update_or_create(volume=volume, defaults=told)
    record("storage.volume.schedule_backups", volume, actor=actor, after=facts)
    return volume


def wake(volume: Volume) -> None:
    """It is out of the trash, where it was not backed up: go on with the next time of its schedule."""
    for policy in BackupPolicy.objects.filter(volume=volume):
        policy.next_at = next_after(policy.schedule, policy.time_zone, timezone.now())
        policy.problem, policy.problem_since = "", None
        policy.save(update_fields=["next_at", "problem", "problem_since"])


def drop_policy(*, volume: Volume, actor: Actor) -> Volume:
    """Back it up no longer by itself. The backups that are there stay."""
    volume = locked(volume, failed=True)
    if BackupPolicy.objects.filter(volume=volume).delete()[0]:
        record("storage.volume.unschedule_backups", volume, actor=actor)
    return volume


def run_due() -> int:
    """Begin the backups whose time has come. How many that were. One that cannot begin is tried again each minute."""
    due = BackupPolicy.objects.filter(enabled=True, next_at__lte=Now(), volume__trashed_at=None)
    begun = 0
    for key in due.order_by("next_at").values_list("pk", flat=True)[:AT_ONCE]:
        try:
            with transaction.atomic():
                begun += _begin(key)
        except Problem as problem:
            _note(key, problem.detail)
    return begun


def _begin(key: Any) -> bool:
    policies = BackupPolicy.objects.select_for_update(of=("self",), skip_locked=True)
    policy = policies.select_related("volume__active__host").filter(pk=key, next_at__lte=Now()).first()
    if policy is None:
        return False
    volume, now = policy.volume, timezone.now()
    policy.next_at = next_after(policy.schedule, policy.time_zone, now)
    policy.problem, policy.problem_since = "", None
    policy.save(update_fields=["next_at", "problem", "problem_since"])
    if volume.active.host is None:  # nothing has been written to it yet
        return False
    if Backup.objects.filter(volume=volume, status=Backup.Status.MAKING).exists():
        raise Conflict("The backup before this one is still being made.")
    name = f"{volume.name[:NAME_LENGTH].rstrip('-')}-{now.astimezone(ZoneInfo(policy.time_zone)):%Y%m%d-%H%M}"
    backups.create(volume=volume, actor=SYSTEM, name=name, scheduled=True)
    return True


def _note(key: Any, words: str) -> None:
    """Say why it could not begin, and since when."""
    BackupPolicy.objects.filter(pk=key).update(problem=words)
    BackupPolicy.objects.filter(pk=key, problem_since=None).update(problem_since=Now())


def prunable(made: Iterable[Backup]) -> list[Backup]:
    """Those that rules are about."""
    return [one for one in made if one.scheduled and one.status == Backup.Status.READY]


def kept_by(policy: BackupPolicy, made: Iterable[Backup]) -> dict[Any, list[str]]:
    """The ids of those that stay, of backups from the newest on, each with the rules that keep it: the newest of each
    hour, day, week and month, and the last ones.
    """
    zone, newest_first = ZoneInfo(policy.time_zone), list(made)
    stay: dict[Any, list[str]] = {one.pk: ["keep_last"] for one in newest_first[: policy.keep_last]}
    for rule, span_of in RULES.items():
        spans: set[object] = set()
        for one in newest_first:
            span = span_of(one.created_at.astimezone(zone))
            if span not in spans and len(spans) < getattr(policy, rule):
                spans.add(span)
                stay.setdefault(one.pk, []).append(rule)
    return stay


def prune() -> int:
    """Delete the scheduled backups that no rule keeps. How many that were."""
    gone = 0
    for policy in BackupPolicy.objects.filter(volume__trashed_at=None).select_related("volume"):
        ready = Backup.objects.filter(volume=policy.volume, scheduled=True, status=Backup.Status.READY)
        made = list(ready.order_by("-created_at"))
        stay = kept_by(policy, made)
        for backup in made:
            if backup.pk not in stay and not backup.protected:
                gone += _delete(backup)
    return gone


def _delete(backup: Backup) -> bool:
    try:
        with transaction.atomic():
            backups.delete(backup=backup, actor=SYSTEM)
        return True
    except Conflict:  # a volume was restored from it, and has not fetched it yet
        return False
