"""What grows by itself, counted by no quota, is kept for a while only, or up to a number for each who makes it grow.

An app says so in a module `retention`, with `@kept("finished operations", Operation)` on a function that forgets what
is over and returns how many rows that were. docs/operating.md has the table; tests/test_growth.py knows every model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from django.db.models import F, Model, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils.module_loading import autodiscover_modules

log = structlog.get_logger(__name__)

BATCH = 5000


@dataclass(frozen=True)
class Rule:
    what: str
    models: tuple[type[Model], ...]
    forget: Callable[[], int]


_rules: list[Rule] = []


def kept(what: str, *models: type[Model]) -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Register what forgets rows of these models."""

    def register(forget: Callable[[], int]) -> Callable[[], int]:
        _rules.append(Rule(what, models, forget))
        return forget

    return register


def rules() -> list[Rule]:
    autodiscover_modules("retention")
    return list(_rules)


def sweep() -> None:
    """Forget what is over. One kind that cannot be forgotten keeps none of the others; raises the last failure."""
    failure = None
    for rule in rules():
        try:
            if forgotten := rule.forget():
                log.info("retention.forgotten", what=rule.what, rows=forgotten)
        except Exception as error:
            log.warning("retention.failed", what=rule.what, exc_info=error)
            failure = error
    if failure is not None:
        raise failure


def delete(rows: QuerySet[Any]) -> int:
    """Delete these rows, a batch at a time, so that nothing is locked for long. Returns how many."""
    return in_batches(rows.values_list("pk", flat=True), lambda keys: rows.model.objects.filter(pk__in=keys).delete())


def in_batches(keys: QuerySet[Any], drop: Callable[[list[Any]], object]) -> int:
    forgotten = 0
    while batch := list(keys[:BATCH]):
        drop(batch)
        forgotten += len(batch)
        if len(batch) < BATCH:
            break
    return forgotten


def beyond(rows: QuerySet[Any], most: int, *, of: str, newest: str) -> QuerySet[Any]:
    """Rows beyond so many of each owner: `of` names the owner's field, `newest` the one that orders them."""
    rank = Window(RowNumber(), partition_by=F(of), order_by=F(newest).desc())
    ranked = rows.annotate(rank=rank).filter(rank__gt=most)
    found: QuerySet[Any] = rows.model.objects.filter(pk__in=[row.pk for row in ranked.only("pk")[:BATCH]])
    return found
