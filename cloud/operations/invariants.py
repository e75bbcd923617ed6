"""What must always hold, as checks that anybody may run: `manage.py verify`.

An app adds its own in a module `invariants`, with `@invariant("I6", "…")` on a function that yields breaches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db.models.functions import Now
from django.utils.module_loading import autodiscover_modules

from cloud.events import place
from cloud.operations.engine import sweep
from cloud.operations.models import Operation

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Breach:
    """One thing that is not as it must be: `repair` opens what puts it right, or `advice` says what a person can do."""

    words: str
    subject_id: str = ""
    repair: Callable[[], object] | None = None
    advice: str = ""


def put_right(breach: Breach) -> str:
    """Have it repaired, where that is possible; why it was not. One that fails keeps none of the others from it."""
    try:
        if breach.repair:
            breach.repair()
    except Exception as error:
        log.warning("repair.failed", subject=breach.subject_id, words=breach.words, exc_info=error)
        return f"{type(error).__name__}: {error}"
    return ""


@dataclass(frozen=True)
class Invariant:
    """A numbered promise (docs/operating.md lists them) and the function that looks for breaches of it."""

    code: str
    promise: str
    check: Callable[[], Iterator[Breach]]


_invariants: list[Invariant] = []


def invariant(code: str, promise: str) -> Callable[[Callable[[], Iterator[Breach]]], Callable[[], Iterator[Breach]]]:
    """Register a check under the code of the promise that it looks after."""

    def register(check: Callable[[], Iterator[Breach]]) -> Callable[[], Iterator[Breach]]:
        _invariants.append(Invariant(code, promise, check))
        return check

    return register


def invariants() -> list[Invariant]:
    """All of them, by number."""
    autodiscover_modules("invariants")
    return sorted(_invariants, key=lambda item: number_of(item.code))


def number_of(code: str) -> int:
    """I2 comes before I10."""
    return int(code[1:])


@invariant("I4", "No operation runs past its deadline")
def operations_end() -> Iterator[Breach]:
    late = Operation.objects.filter(finished_at=None, outcome="", deadline_at__lt=Now() - timedelta(minutes=10))
    for operation in late:
        yield Breach(f"{operation} should have given up at {operation.deadline_at}", str(operation.pk), repair=sweep)


@invariant("I13", "New events come after all earlier ones")
def events_go_on() -> Iterator[Breach]:
    if not place.is_as_noted():
        yield Breach(
            "the database was restored, and new events have numbers that were used before", repair=place.put_right
        )
