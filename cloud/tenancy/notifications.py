"""Notifications: work that has ended, and answers to requests. Read from the rows that are there already.

News is what a user does not know yet: own work that failed, work of others on a resource of the user's, and answers.
Only news is unread. Own work that went well was seen by whoever began it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from cloud.operations.models import Operation, Outcome
from cloud.tenancy.models import Project, QuotaRequest, User

KEPT = 50  # of each kind, the latest


@dataclass(frozen=True)
class Notification:
    """One thing that has ended."""

    id: UUID
    kind: str  # of an operation, or "quota_request"
    subject: dict[str, str]
    project: str
    outcome: str
    reason: str
    at: datetime
    unread: bool
    is_news: bool
    by: str = ""  # who began it, if somebody else


def ended_work(user: User) -> "QuerySet[Operation]":
    """What the user began."""
    own = Operation.objects.filter(requested_by_id=user.pk, finished_at__isnull=False)
    return own.exclude(outcome=Outcome.SUPERSEDED)


def work_of_others(user: User) -> "QuerySet[Operation]":
    """What others, or the cloud itself, did with a resource on which this user's work was the first."""
    found = Operation.objects.filter(owner_id=user.pk, finished_at__isnull=False).exclude(outcome=Outcome.SUPERSEDED)
    return found.exclude(requested_by_id=user.pk)


def answers(user: User) -> "QuerySet[QuotaRequest]":
    decided = QuotaRequest.objects.filter(requested_by_id=user.pk, decided_at__isnull=False)
    return decided.exclude(state=QuotaRequest.State.WITHDRAWN)


def bell(user: User) -> tuple[int, datetime]:
    """How much news there is since the user last looked, up to KEPT of each kind; and the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT (SELECT count(*) FROM (SELECT FROM operations_operation WHERE requested_by_id = %(user)s
                    AND finished_at > %(since)s AND outcome = 'failed' LIMIT %(kept)s) work)
                + (SELECT count(*) FROM (SELECT FROM operations_operation WHERE owner_id = %(user)s
                    AND finished_at > %(since)s AND outcome <> 'superseded'
                    AND requested_by_id IS DISTINCT FROM %(user)s LIMIT %(kept)s) others)
                + (SELECT count(*) FROM tenancy_quotarequest WHERE requested_by_id = %(user)s
                    AND decided_at > %(since)s AND state <> 'withdrawn'), now()
            """,
            {"user": user.pk, "since": user.notifications_seen_at, "kept": KEPT},
        )
        count, now = cursor.fetchone()
    return count, now


def latest(user: User, *, after: datetime | None = None) -> list[Notification]:
    """The latest first; all of them, or those after a moment."""
    works: list[Any] = [ended_work(user).defer("history"), work_of_others(user).defer("history")]
    answered: Any = answers(user).select_related("project")
    if after is not None:
        works = [rows.filter(finished_at__gt=after) for rows in works]
        answered = answered.filter(decided_at__gt=after)
    operations = [work for rows in works for work in rows.order_by("-finished_at", "-id")[:KEPT]]
    ids = {operation.project_id for operation in operations}
    names = dict(Project.objects.filter(pk__in=ids).values_list("pk", "name")) if ids else {}
    seen = user.notifications_seen_at
    found = [
        Notification(
            id=row.pk,
            kind=row.kind,
            subject={"type": row.subject_type, "id": str(row.subject_id), "name": row.subject_name},
            project=names.get(row.project_id, ""),
            outcome=row.outcome,
            reason=row.reason,
            at=row.finished_at,
            unread=row.finished_at > seen and _is_news(row, user),
            is_news=_is_news(row, user),
            by="" if row.requested_by_id == user.pk else row.requested_by,
        )
        for row in operations
    ]
    found += [
        Notification(
            id=row.pk,
            kind="quota_request",
            subject={"type": "quota_request", "id": str(row.pk), "name": str(row)},
            project=row.project.name,
            outcome=row.state,
            reason=row.note,
            at=row.decided_at,
            unread=row.decided_at > seen,
            is_news=True,
        )
        for row in answered.order_by("-decided_at")[:KEPT]
    ]
    return sorted(found, key=lambda each: each.at, reverse=True)[:KEPT]


def _is_news(work: Operation, user: User) -> bool:
    return work.outcome == Outcome.FAILED or work.requested_by_id != user.pk


def mark_as_seen(user: User) -> None:
    """The user has looked."""
    User.objects.filter(pk=user.pk).update(notifications_seen_at=Now())
    user.refresh_from_db(fields=["notifications_seen_at"])
