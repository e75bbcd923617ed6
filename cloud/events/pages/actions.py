"""Events as actions: what somebody did is one row, which follows its work to its end."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Q

from cloud.api.fields import as_uuid
from cloud.events.models import Event
from cloud.operations.models import Operation

FINISH, SEEN = "operations.operation.finish", ".seen"


def folded(events: Iterable[Event]) -> list[Event]:
    """Without what the row of an action tells: the end of its work, and what hosts saw while it was under way.

    Rows of actions that began work carry it as `work`. Ends of the cloud's own work, and what was seen without any,
    stay rows of their own. At most two queries.
    """
    rows = list(events)
    finished = {event.subject_id for event in rows if event.action == FINISH}
    requests = {event.request_id for event in rows if event.request_id}
    subjects = {ident for event in rows if (ident := as_uuid(event.subject_id))}
    if not rows or not subjects:
        return rows
    first, last = min(event.at for event in rows), max(event.at for event in rows)
    of_rows = Q(subject_id__in=subjects) & Q(started_at__lte=last) & (Q(finished_at=None) | Q(finished_at__gte=first))
    found = Operation.objects.filter(of_rows | Q(pk__in=[ident for ident in finished if as_uuid(ident)]))
    works = list(found.defer("history"))
    asked_for = {str(work.pk) for work in works if work.requested_by_id is not None}
    by_request: dict[tuple[str, UUID], Operation] = {
        (work.request_id, work.subject_id): work for work in works if work.request_id in requests
    }
    left = []
    for event in rows:
        if event.action == FINISH and event.subject_id in asked_for:
            continue
        if event.action.endswith(SEEN) and _was_worked_on(event, works):
            continue
        ident = as_uuid(event.subject_id)
        event.work = by_request.pop((event.request_id, ident), None) if ident else None  # type: ignore[attr-defined]
        left.append(event)
    return left


def _was_worked_on(event: Event, works: list[Operation]) -> bool:
    return any(
        str(work.subject_id) == event.subject_id
        and work.requested_by_id is not None
        and work.started_at <= event.at
        and (work.finished_at is None or event.at <= work.finished_at)
        for work in works
    )
