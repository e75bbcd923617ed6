"""What is wrong in the cloud just now, since when, and what to do about it.

An app adds its own in a module `troubles`, with `@trouble("…", "…")` on a function that gives the rows concerned.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from cloud.operations import checks
from cloud.operations.models import Check, FailingTask, FixBy, Operation, Outcome

MAX_SHOWN = 20
STUMBLES = 5  # attempts at a step before somebody should look
RECENT = timedelta(hours=24)
FAILED_WORK = "Work that failed in the last day"


@dataclass(frozen=True)
class Case:
    """One thing that is wrong."""

    type: str
    id: str
    name: str
    words: str
    since: datetime | None
    project: str = ""  # the name of the one that it is in


@dataclass(frozen=True)
class Trouble:
    """Things that are wrong in the same way: how many, the first of them, and what to do."""

    title: str
    advice: str
    count: int
    cases: list[Case] = field(default_factory=list)


Looked = tuple[int, list[Case]]
_kinds: list[tuple[str, str, Callable[[], Looked]]] = []


def trouble(title: str, advice: str) -> Callable[[Callable[[], Looked]], Callable[[], Looked]]:
    """Register a way to look for one kind of trouble: a function that gives the count and the first cases."""

    def register(find: Callable[[], Looked]) -> Callable[[], Looked]:
        _kinds.append((title, advice, find))
        return find

    return register


def troubles() -> list[Trouble]:
    """All that is wrong; of each kind the first MAX_SHOWN."""
    autodiscover_modules("troubles")
    return list(_look())


def _look() -> Iterator[Trouble]:
    for title, advice, find in _kinds:
        count, cases = find()
        if count:
            yield Trouble(title, advice, count, cases)


def of_operations(rows: "QuerySet[Operation]", since: str) -> Looked:
    """The first of these operations as cases, and how many there are."""
    found = list(rows.defer("history").order_by(since)[: MAX_SHOWN + 1])
    count = len(found) if len(found) <= MAX_SHOWN else rows.count()
    return count, [
        Case(
            "operation",
            str(row.pk),
            f"{row.kind.rpartition('.')[2]} {row.subject_name}",
            row.reason,
            getattr(row, since.lstrip("-")),
        )
        for row in found[:MAX_SHOWN]
    ]


@trouble("Operations that make no progress", "The reason is their last message. Cancel them, or fix what it names.")
def stumbling_operations() -> Looked:
    return of_operations(Operation.objects.filter(finished_at=None, attempts__gte=STUMBLES), "started_at")


@trouble("Operations past their deadline", "Check that a control worker runs, and read its log.")
def late_operations() -> Looked:
    late = Operation.objects.filter(finished_at=None, outcome="", deadline_at__lt=Now() - timedelta(minutes=1))
    return of_operations(late, "deadline_at")


def recent_failures() -> "QuerySet[Operation]":
    """The work that failed in the last day and that operators have to look at. Whoever asked for other work has been
    told what to do about it."""
    failed = Operation.objects.filter(outcome=Outcome.FAILED, finished_at__gt=Now() - RECENT)
    return failed.exclude(fix_by__in=(FixBy.YOU, FixBy.NOBODY))


@trouble(
    FAILED_WORK,
    "The reason says what a host or the cloud lacks. Work whose cause is what its user gave is not here: the user is "
    "told what to do.",
)
def failed_operations() -> Looked:
    return of_operations(recent_failures(), "-finished_at")


@trouble(
    "Consistency checks do not run",
    "Check that Celery's beat and a control worker run.",
)
def unchecked() -> Looked:
    oldest = Check.objects.order_by("checked_at").first()
    if oldest is None or oldest.checked_at > timezone.now() - 3 * checks.PERIOD:
        return 0, []
    return 1, [Case("check", str(oldest.pk), oldest.code, oldest.promise, oldest.checked_at)]


@trouble(
    "Failing periodic tasks",
    "They are tried again on schedule. The log of the control worker has the details.",
)
def failing_tasks() -> Looked:
    failing = list(FailingTask.objects.order_by("since"))
    return len(failing), [Case("task", row.name, row.name, row.problem, row.since) for row in failing[:MAX_SHOWN]]
