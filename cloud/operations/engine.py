"""The engine: begins operations, advances them a step at a time, wakes them, cancels them.

PostgreSQL holds the truth; a bell only says that something is due. The lock on the operation's row is the lease on its
work. Locks are taken in one order everywhere: operation, resource, order, allocation, host.
"""

import logging
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from django.db import models, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.db.utils import OperationalError

from cloud.events.services import SYSTEM, Actor, record
from cloud.operations import bells
from cloud.operations.beginning import begin_unless_busy
from cloud.operations.models import FixBy, Operation, Outcome
from cloud.operations.workflow import Done, Refused, Topic, Verdict, Wait, Workflow
from cloud.problems import Problem
from cloud.queries import Prepared, Statement
from cloud.saving import update

log = logging.getLogger(__name__)

MAX_BACKOFF = 300  # seconds
MAX_RACES = 20  # starts that another one may win before this one answers busy
MAX_WOKEN = 100  # by one thing that they wait for
SOON_SECONDS = 1
HISTORY_KEPT = 50
CONFLICTS = {"40001", "40P01"}  # serialization failure, deadlock: trying again at once is right


class Busy(Problem):
    """Another operation holds the resource."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "busy"
    title: ClassVar[str] = "Another operation is under way"
    retryable: ClassVar[bool] = True

    @classmethod
    def with_operation(cls, operation: Operation | None, name: str) -> "Busy":
        if operation is None:
            return cls(f"Another operation on {name} began first.", headers={"Retry-After": "1"})
        return cls(
            f"{operation.kind} of {name} is under way. Wait for it, or cancel it.",
            headers={"Retry-After": "2"},
            extra={"operation": str(operation.pk)},
        )


class OperationFinished(Problem):
    """The operation has ended: there is nothing to cancel."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "operation_finished"
    title: ClassVar[str] = "The operation has finished"


class NotCancelable(Problem):
    """The operation is past the point where it could be undone."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "not_cancelable"
    title: ClassVar[str] = "The operation can no longer be cancelled"


def start(
    workflow: type[Workflow],
    subject: models.Model,
    *,
    actor: Actor,
    project_id: UUID | None = None,
    step: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> Operation:
    """Begin work on a resource, inside the caller's transaction. Supersedes what it may, otherwise raises `Busy`.

    `step` is where to begin, if not at the workflow's first step; `parameters` is what the verb was given (JSON).
    """
    for _ in range(MAX_RACES):
        operation = begin_unless_busy(
            workflow, subject, actor=actor, project_id=project_id, step=step, parameters=parameters
        )
        if operation:
            bells.ring(operation.pk)
            return operation
        _supersede(workflow, subject)  # what is under way; if it has ended since, begin again
    raise Busy.with_operation(None, str(subject))


def _supersede(workflow: type[Workflow], subject: models.Model) -> None:
    """End what is under way, if this kind of work may take over from it. Raises `Busy`."""
    live = lock(workflow.subject_type, subject.pk)
    if live is None:
        return
    if live.kind not in workflow.supersedes:
        raise Busy.with_operation(live, str(subject))
    _finish(live, Outcome.SUPERSEDED, f"a {workflow.kind.rpartition('.')[2]} took over")
    live.save()


def lock(subject_type: str, subject_id: UUID) -> Operation | None:
    """The live operation on a resource, locked. Waits for a running step: milliseconds."""
    return _live.first(subject_type, subject_id)


@Prepared
def _live(subject_type: Any, subject_id: Any) -> "QuerySet[Operation]":
    return Operation.objects.select_for_update().filter(
        subject_type=subject_type, subject_id=subject_id, finished_at=None
    )


def fail(operation: Operation, reason: str) -> None:
    """End a locked operation whose work has become pointless, without a step back: there is nothing to go back to."""
    operation.fix_by = FixBy.NOBODY
    _finish(operation, Outcome.FAILED, reason)
    operation.save()


def wake(operation: Operation | None) -> None:
    """Make a locked operation due now: something that it may wait for has been seen."""
    if operation is not None:
        operation.due_at = Now()
        update(operation, "due_at")
        bells.ring(operation.pk)


def tell_waiting(topic: Topic, *, limit: int = MAX_WOKEN) -> None:
    """Wake what waits for this, once the transaction has committed: those that have waited longest first.

    Each is woken in a transaction of its own, so no second lock is ever held. When this process dies before, the
    seconds of the wait are lost and nothing more.
    """
    transaction.on_commit(lambda: _wake_waiting(str(topic), limit), robust=True)


def _wake_waiting(topic: str, limit: int) -> None:
    waiting = Operation.objects.filter(finished_at=None, waits_for__contains=[topic])
    for (operation_id,) in _waiting_longest(limit).tuples([topic]):
        if waiting.filter(pk=operation_id).update(due_at=Now()):
            bells.ring(operation_id)


@cache
def _waiting_longest(limit: int) -> "Prepared[Operation]":
    def rows(topics: Any) -> "QuerySet[Any]":
        waiting = Operation.objects.filter(finished_at=None, waits_for__contains=topics)
        return waiting.order_by("started_at", "pk").values_list("pk")[:limit]

    return Prepared(rows)


@transaction.atomic
def cancel(operation_id: UUID, *, actor: Actor) -> Operation:
    """Ask a live operation to give up. Asking twice is no error; a result already reached wins."""
    operation = Operation.objects.select_for_update().get(pk=operation_id)
    if operation.finished_at:
        raise OperationFinished(f"It ended as {operation.outcome}.")
    if operation.cancel_requested_at:
        return operation
    if operation.outcome or not Workflow.known[operation.kind](operation).may_cancel():
        raise NotCancelable(f"{operation.kind} is past the point where it could be undone.")
    operation.cancel_requested_at = Now()
    operation.cancel_requested_by = actor.name
    operation.due_at = Now()
    operation.save()
    operation.refresh_from_db()
    record("operations.operation.cancel", operation, actor=actor, after={"kind": operation.kind})
    bells.ring(operation.pk)
    return operation


def advance(operation_id: UUID) -> None:
    """Run the due steps of one operation until it waits, stumbles or finishes."""
    while _count_attempt(operation_id) and _advance_a_step(operation_id):
        pass


def sweep(limit: int = 200) -> int:
    """Advance what is due and was not rung for. Returns how many operations were looked at."""
    due = Operation.objects.filter(finished_at=None, due_at__lte=Now()).order_by("due_at")
    ids = list(due.values_list("pk", flat=True)[:limit])
    for operation_id in ids:
        advance(operation_id)
    return len(ids)


_ATTEMPT = Statement(
    """
    UPDATE operations_operation
    SET attempts = attempts + 1, due_at = now() + make_interval(secs => least(2 ^ least(attempts, 16), %(most)s))
    WHERE id = (
        SELECT id FROM operations_operation
        WHERE id = %(id)s AND finished_at IS NULL AND due_at <= now() FOR UPDATE SKIP LOCKED
    )
    RETURNING id
    """,
    table="operations_operation",
)


def _count_attempt(operation_id: UUID) -> bool:
    """Take one attempt at a due step, in a transaction of its own: a step that kills its worker is counted too.

    The step becomes due again after a backoff; that is what remains if nobody survives to say otherwise.
    """
    return bool(_ATTEMPT.rows({"id": operation_id, "most": MAX_BACKOFF}))


@Prepared
def _free(operation_id: Any) -> "QuerySet[Operation]":
    rows = Operation.objects.select_for_update(skip_locked=True).filter(pk=operation_id, finished_at=None)
    return rows.annotate(now=Now())


def _advance_a_step(operation_id: UUID) -> bool:
    """Run one step under the operation's lock; whether the next one may follow at once."""
    with transaction.atomic():
        operation = _free.first(operation_id)
        if operation is None:
            return False
        try:
            verdict = _run(operation)
        except Exception as error:
            _stumble(operation, error)
            return False
        return _take(operation, verdict)


def _run(operation: Operation) -> Verdict:
    """Run the step that is due, and give up if it refuses: either in a savepoint, so nothing remains of what raises."""
    workflow = Workflow.known[operation.kind](operation)
    clearing_up = bool(operation.outcome)
    try:
        with transaction.atomic():
            if operation.cancel_requested_at and not clearing_up and not workflow.is_reached():
                clearing_up, operation.outcome = True, Outcome.CANCELLED
                operation.reason = f"cancelled by {operation.cancel_requested_by}"
                return workflow.give_up()
            if not clearing_up and operation.now > operation.deadline_at:  # type: ignore[attr-defined]
                raise Refused(f"gave up after {_words(workflow.patience)}: {operation.reason or 'no answer'}")
            return workflow.step(operation.step)()
    except Refused as refusal:
        if clearing_up or workflow.persists:
            raise
        operation.outcome, operation.reason, operation.fix_by = Outcome.FAILED, str(refusal), refusal.fix_by
    with transaction.atomic():
        return workflow.give_up()


def _take(operation: Operation, verdict: Verdict) -> bool:
    operation.attempts, waited_for, operation.waits_for = 0, operation.waits_for, []
    match verdict:
        case Wait(seconds, because, on):
            operation.waits_for = [str(topic) for topic in on]
            if not set(operation.waits_for) <= set(waited_for):
                # What happened while this step ran found nobody waiting yet: look once more, soon.
                seconds = min(seconds, SOON_SECONDS)
            operation.due_at = Now() + timedelta(seconds=seconds)
            if not operation.outcome:  # once it is decided, the reason is why
                operation.reason = because
        case Done():
            _finish(
                operation, Outcome(operation.outcome or Outcome.DONE), operation.reason if operation.outcome else ""
            )
        case step:
            operation.step, operation.due_at = step.__name__, Now()
    _remember(operation)
    update(operation)
    return not isinstance(verdict, Wait | Done)


def _stumble(operation: Operation, error: Exception) -> None:
    """Note a step that raised; `_count_attempt` has already said when to try again."""
    log.warning("operation.stumbled", exc_info=error, extra={"operation": str(operation.pk), "step": operation.step})
    changes: dict[str, object] = {}
    if not operation.outcome:
        changes["reason"] = f"{type(error).__name__}: {error}"[:500]
    cause = getattr(error, "__cause__", None)
    if isinstance(error, OperationalError) and getattr(cause, "sqlstate", "") in CONFLICTS:
        changes["due_at"] = Now()
    if changes:
        Operation.objects.filter(pk=operation.pk).update(**changes)


def _finish(operation: Operation, outcome: Outcome, reason: str) -> None:
    operation.outcome, operation.reason, operation.finished_at = outcome, reason, Now()
    tell_waiting(Topic(operation.subject_type, operation.subject_id))
    record(
        "operations.operation.finish",
        operation,
        actor=SYSTEM,
        after={
            "kind": operation.kind,
            "subject": {"type": operation.subject_type, "id": operation.subject_id, "name": operation.subject_name},
            "outcome": outcome,
            "reason": reason,
        },
    )


def _remember(operation: Operation) -> None:
    """Add to the history what has changed since its last line."""
    line = {"step": operation.step, "reason": operation.reason, "at": operation.now.isoformat()}  # type: ignore[attr-defined]
    last = operation.history[-1] if operation.history else {}
    if (last.get("step"), last.get("reason")) != (line["step"], line["reason"]):
        operation.history = [*operation.history, line][-HISTORY_KEPT:]


def _words(span: timedelta) -> str:
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    return f"{minutes} min" if minutes and not seconds else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
