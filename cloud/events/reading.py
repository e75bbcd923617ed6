"""Reading the event log in order. A cursor is (transaction, id).

Transactions commit in another order than they began in, so a reader who went past a running one would never see its
events. Therefore only rows of transactions older than every running one are shown: nothing can still come before them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Func, Q, QuerySet
from django.db.models.fields import BigIntegerField

from cloud.events.models import Event

CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})")


class Horizon(Func):
    """The oldest transaction that is still running, of whatever database of the server."""

    template = "(pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
    output_field = BigIntegerField()


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


def now() -> Cursor:
    """The cursor before everything that is yet to be shown."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1")
        return Cursor(cursor.fetchone()[0], 10**18 - 1)


def settled(rows: QuerySet[Event] | None = None) -> QuerySet[Event]:
    """The events that nothing can come before any more."""
    return (Event.objects.all() if rows is None else rows).filter(transaction__lt=Horizon())


def after(rows: QuerySet[Event], cursor: Cursor) -> QuerySet[Event]:
    later = Q(transaction__gt=cursor.transaction) | Q(transaction=cursor.transaction, id__gt=cursor.id)
    return rows.filter(transaction__gte=cursor.transaction).filter(later)


def before(rows: QuerySet[Event], cursor: Cursor) -> QuerySet[Event]:
    earlier = Q(transaction__lt=cursor.transaction) | Q(transaction=cursor.transaction, id__lt=cursor.id)
    return rows.filter(transaction__lte=cursor.transaction).filter(earlier)


def follow(project_id: UUID | None, cursor: Cursor, limit: int) -> tuple[Sequence[Event], bool]:
    """The next events of a project (None: of the whole cloud), and whether more are there or about to settle."""
    rows = Event.objects.all() if project_id is None else Event.objects.filter(project_id=project_id)
    unseen: Any = after(rows, cursor).annotate(horizon=Horizon()).order_by("transaction", "id")[: limit + 1]
    ready: list[Event] = []
    waiting = False
    for event in unseen:
        if event.transaction >= event.horizon or len(ready) == limit:
            waiting = True
            break
        ready.append(event)
    return ready, waiting
