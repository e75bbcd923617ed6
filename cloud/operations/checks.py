"""Looking after the invariants by the clock: what is broken, since when, and putting it right when an admin asks.

Looking takes seconds in a large cloud, so a control worker does it and keeps what it found; pages only read that.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

import structlog
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from cloud.events.services import Actor, record
from cloud.operations import bells
from cloud.operations.invariants import Breach, Invariant, invariants, put_right
from cloud.operations.models import Check
from cloud.problems import Conflict

log = structlog.get_logger(__name__)

PERIOD = timedelta(minutes=5)
BREACHES_KEPT = 50
ONE_LOOKER = 0x9112E06  # an advisory lock: two would only do the same work twice


class NothingToRepair(Conflict):
    """The promise holds, or nothing that the cloud does by itself can put it right."""

    title: ClassVar[str] = "There is nothing to repair"


def request_repair(*, check: Check, actor: Actor) -> Check:
    """Have a control worker open what puts the breaches right. Asking twice is no error. Raises NothingToRepair."""
    check = Check.objects.select_for_update().get(pk=check.pk)
    if not any(breach["repairable"] for breach in check.breaches):
        raise NothingToRepair("It holds." if not check.count else "A person has to look at these: see what each says.")
    if check.repair_requested_at is None:
        check.repair_requested_at, check.repair_requested_by = Now(), actor.name
        check.save(update_fields=["repair_requested_at", "repair_requested_by"])
        record("operations.check.repair", check, actor=actor, after={"breaches": check.count})
        transaction.on_commit(lambda: bells.push("control", "operations.look", longest=100), robust=True)
    check.refresh_from_db()
    return check


def look(*, every: bool = False) -> int:
    """Check what has not been checked for a while or is to be repaired. Returns how many invariants were looked at."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ONE_LOOKER])
        if not cursor.fetchone()[0]:
            return 0
    try:
        known = {check.name: check for check in Check.objects.all()}
        present = {name_of(item): item for item in invariants()}
        Check.objects.exclude(name__in=present).delete()
        stale = timezone.now() - PERIOD
        due = [
            (item, known.get(name))
            for name, item in present.items()
            if every or name not in known or known[name].repair_requested_at or known[name].checked_at < stale
        ]
        for item, check in due:
            _look_at(item, check)
        return len(due)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ONE_LOOKER])


def name_of(item: Invariant) -> str:
    return f"{item.check.__module__}.{item.check.__name__}"


def _look_at(item: Invariant, check: Check | None) -> None:
    facts: dict[str, Any] = {"code": item.code, "promise": item.promise, "checked_at": Now(), "problem": ""}
    began = time.monotonic()
    try:
        breaches = list(item.check())
        if check is not None and check.repair_requested_at:
            for breach in breaches:
                put_right(breach)
            facts |= {"repair_requested_at": None, "repaired_at": Now()}
            breaches = list(item.check())
        facts |= {"count": len(breaches), "breaches": _kept(breaches, check.breaches if check else ())}
    except Exception as error:
        log.warning("check.failed", check=name_of(item), exc_info=error)
        facts["problem"] = f"{type(error).__name__}: {error}"[:500]
    facts["seconds"] = round(time.monotonic() - began, 3)
    Check.objects.update_or_create(name=name_of(item), defaults=facts)


def _kept(breaches: Sequence[Breach], before: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    since = {known["subject"]: known["since"] for known in before}
    now = timezone.now().isoformat()
    return [
        {
            "words": breach.words,
            "subject": breach.subject_id,
            "since": since.get(breach.subject_id, now),
            "repairable": breach.repair is not None,
            "advice": breach.advice,
        }
        for breach in breaches[:BREACHES_KEPT]
    ]
