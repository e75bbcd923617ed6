"""The trash: what is deleted waits there for a day, and comes back on demand.

It keeps its files, counts in the quota of space and in nothing else, and its name is free. The app that owns a kind of
resource registers it in the module with its services. The rows have `project`, `name` and `trashed_at`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Model, QuerySet
from django.db.models.functions import Now

from cloud.events.services import SYSTEM, Actor
from cloud.operations.models import Operation
from cloud.problems import Conflict

log = structlog.get_logger(__name__)

AT_ONCE = 100
MAX_NAME = 63  # characters


@dataclass(frozen=True)
class Kind:
    """A kind of resource that goes through the trash.

    `rows`: all of them, also those that are not in the trash. `restore(row, actor, name)` takes one out again, with a
    name if it is not to be called as before. `purge(row, actor)` begins to delete one for good, by an operation of the
    kind `deleting`. `about(row)` says in a few words how large it is. `unique_with`: columns beside the project in
    which a name is taken once.
    """

    type: str  # of subjects: "volume"
    rows: Callable[[], QuerySet[Any]]
    restore: Callable[[Any, Actor, str], Any]
    purge: Callable[[Any, Actor], Any]
    about: Callable[[Any], str]
    deleting: str
    unique_with: tuple[str, ...] = ()

    def trashed(self) -> QuerySet[Any]:
        return self.rows().filter(trashed_at__isnull=False)

    def going(self) -> QuerySet[Any]:
        """Ids of those that are being deleted for good."""
        live = Operation.objects.filter(kind=self.deleting, finished_at=None)
        return live.values_list("subject_id", flat=True)

    def is_going(self, row: Model) -> bool:
        return self.going().filter(subject_id=row.pk).exists()


_kinds: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    _kinds[kind.type] = kind


def kinds() -> list[Kind]:
    return list(_kinds.values())


def kind_of(name: str) -> Kind:
    """Raises KeyError."""
    return _kinds[name]


def is_used() -> bool:
    """Whether there is a trash at all, by setting."""
    return settings.TRASH_HOURS > 0


def require_in_trash(row: Any) -> None:
    """Raises Conflict when the row, which is locked, is not there, or is being deleted for good."""
    if row.trashed_at is None or _kinds[row._meta.model_name].is_going(row):
        raise Conflict(f"{row} is not in the trash.")


def free_name(row: Any) -> str:
    """What to call something that comes back: as before, or with a number if another one is called so by now."""
    kind = _kinds[row._meta.model_name]
    within = {column: getattr(row, column) for column in ("project_id", *kind.unique_with)}
    others = kind.rows().filter(trashed_at=None, **within)
    taken = set(others.filter(name__startswith=row.name[: MAX_NAME - 4]).values_list("name", flat=True))
    names = (f"{row.name[: MAX_NAME - 4].rstrip('-')}-{number}" for number in range(2, 1000))
    return next((name for name in (row.name, *names) if name not in taken), "")


def empty() -> int:
    """Delete for good what has waited long enough. How many that were."""
    since, purged = Now() - timedelta(hours=settings.TRASH_HOURS), 0
    for kind in kinds():
        due = kind.trashed().filter(trashed_at__lt=since).exclude(pk__in=kind.going()).order_by("trashed_at")
        for key in list(due.values_list("pk", flat=True)[:AT_ONCE]):
            with transaction.atomic():
                kind.purge(kind.rows().get(pk=key), SYSTEM)
            purged += 1
    if purged:
        log.info("trash.emptied", purged=purged)
    return purged
