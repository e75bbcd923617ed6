"""Reading the event log in order. A cursor is (transaction, id).

Transactions commit in another order than they began in, so a reader who went past a running one would never see its
events. Therefore only rows of transactions older than every running one that writes events are shown: nothing can still
come before them. docs/decisions/0018 says how they are numbered, and how the running ones are known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from cloud.events.models import Event, Verb

MAX_TRANSACTION = timedelta(hours=1)
NEWEST = datetime(9000, 1, 1, tzinfo=UTC)  # nothing is later, and what is reckoned from it is still a date
HOST = "host "  # as the names of hosts begin, where they are actors
CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})")


@dataclass(frozen=True, order=True)
class Cursor:
    transaction: int
    id: int

    @classmethod
    def parse(cls, text: str) -> "Cursor | None":
        match = CURSOR.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None

    @classmethod
    def of(cls, event: Event) -> "Cursor":
        return cls(event.transaction, event.pk)

    def __str__(self) -> str:
        return f"{self.transaction}-{self.id}"


def log(*, project_id: UUID | None = None, subject: tuple[str, Any] | None = None) -> QuerySet[Event]:
    """The event log: of a project, of one subject (type and id), or of the whole cloud."""
    found = Event.objects.all()
    if project_id is not None:
        found = found.filter(project_id=project_id)
    if subject is not None:
        found = found.filter(subject_type=subject[0], subject_id=str(subject[1]))
    return found


def horizon() -> int:
    """What is yet to be shown has this number or a later one. To be asked before the events, not with them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT events_horizon()")
        return int(cursor.fetchone()[0])


def now() -> Cursor:
    """The cursor before everything that is yet to be shown."""
    return Cursor(horizon() - 1, 10**18 - 1)


def settled(rows: QuerySet[Event]) -> QuerySet[Event]:
    """The events that nothing can come before any more."""
    return rows.filter(transaction__lt=horizon())


def as_of(rows: QuerySet[Event], moment: datetime) -> QuerySet[Event]:
    """The events up to a moment, as the log was then.

    Newer ones need not be read through: a transaction that began much later than the moment has a greater number than
    all that had begun by then, as none takes that long.
    """
    moment = min(moment, NEWEST)
    later = Event.objects.filter(at__gt=moment + MAX_TRANSACTION).order_by("at")
    bound = later.values_list("transaction", flat=True).first()
    found = rows.filter(at__lte=moment)
    return found if bound is None else found.filter(transaction__lt=bound)


def told_to_tenants(actor: str) -> str:
    """Who did something, as a project reads it: that a host did, not which one."""
    return "host" if actor.startswith(HOST) else actor


def by(rows: QuerySet[Event], actor: str, *, of_project: bool) -> QuerySet[Event]:
    """Those of one actor, under the name that the reader knows."""
    if not of_project:
        return rows.filter(actor=actor)
    if actor == "host":
        return rows.filter(actor__startswith=HOST)
    return rows.none() if actor.startswith(HOST) else rows.filter(actor=actor)


def of_action(rows: QuerySet[Event], action: str) -> QuerySet[Event]:
    """Those of one action, `compute.instance.stop`, or of one verb whatever it was done to: `.stop`."""
    whole, _, verb = action.rpartition(".")
    found = rows.alias(verb=Verb()).filter(verb=verb)  # by the index of verbs in both cases
    return found.filter(action=action) if whole else found


def after(rows: QuerySet[Event], cursor: Cursor) -> QuerySet[Event]:
    later = Q(transaction__gt=cursor.transaction) | Q(transaction=cursor.transaction, id__gt=cursor.id)
    return rows.filter(transaction__gte=cursor.transaction).filter(later)


def before(rows: QuerySet[Event], cursor: Cursor) -> QuerySet[Event]:
    earlier = Q(transaction__lt=cursor.transaction) | Q(transaction=cursor.transaction, id__lt=cursor.id)
    return rows.filter(transaction__lte=cursor.transaction).filter(earlier)


def follow(project_id: UUID | None, cursor: Cursor, limit: int) -> tuple[Sequence[Event], bool]:
    """The next events of a project (None: of the whole cloud), and whether more are there or about to settle."""
    rows = Event.objects.all() if project_id is None else Event.objects.filter(project_id=project_id)
    settles_before = horizon()
    found = list(after(rows, cursor).order_by("transaction", "id")[: limit + 1])
    ready = [event for event in found[:limit] if event.transaction < settles_before]
    return ready, len(ready) < len(found)
