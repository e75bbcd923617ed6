"""One mutation, one transaction: retried when it lost a deadlock, remembered under its key, or rolled back when dry."""

import hashlib
import json
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import Max
from django.db.utils import DatabaseError

from cloud.api.errors import Fault, IdempotencyMismatch, Invalid
from cloud.api.models import IdempotencyKey
from cloud.api.translate import is_conflicting
from cloud.events.models import CurrentTransaction, Event

ATTEMPTS = 4
KEY_LIFE_HOURS = 24
CREATING = {"create", "launch"}  # the verbs of events that tell of something new
T = TypeVar("T")


def run(work: Callable[[], T], *, dry: bool = False) -> T:
    """Run the work in a transaction of its own; a dry one checks what commit would check, and leaves nothing."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic(durable=True):
                if dry:
                    _execute("SET LOCAL lock_timeout = '1s'")
                result = work()
                if dry:
                    _execute("SET CONSTRAINTS ALL IMMEDIATE")
                    transaction.set_rollback(True)
                return result
        except DatabaseError as error:
            if attempt == ATTEMPTS or not is_conflicting(error):
                raise
            time.sleep(random.uniform(0.005, 0.05) * attempt)  # noqa: S311
    raise AssertionError("unreachable")


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def read_key(header: str | None) -> str | None:
    """The Idempotency-Key of a request; raises Invalid for one that is not 1 to 64 printable ASCII characters."""
    if header is None:
        return None
    if not 0 < len(header) <= 64 or not all(" " <= character <= "~" for character in header):
        message = "Idempotency-Key has 1 to 64 printable ASCII characters."
        raise Invalid(message, errors=[Fault("", message)])
    return header


def fingerprint(method: str, path: str, query: str, body: Any) -> str:
    """What makes a request the same one: method, path, query, and the body whatever the order of its members."""
    canonical = json.dumps([method, path, query, body], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def reserve_key(caller: str, key: str, request: str) -> IdempotencyKey | None:
    """None when the key is new, and now ours until this transaction ends; otherwise the answer that it stands for.

    A second request with the same key waits here until the first has committed (then it replays) or rolled back (then
    it does the work itself).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO api_idempotencykey (caller, key, request, status, headers, created_at)
            VALUES (%s, %s, %s, 0, '{}', now())
            ON CONFLICT (caller, key) DO UPDATE SET request = EXCLUDED.request, created_at = now()
            WHERE api_idempotencykey.created_at < now() - make_interval(hours => %s)
            RETURNING id
            """,
            [caller, key, request, KEY_LIFE_HOURS],
        )
        if cursor.fetchone():
            return None
    answer = IdempotencyKey.objects.get(caller=caller, key=key)
    if answer.request != request:
        raise IdempotencyMismatch("Use a new key for a new request; the same key only repeats the same request.")
    return answer


def keep_answer(caller: str, key: str, *, status: int, headers: dict[str, str], body: Any) -> None:
    """Remember the answer under the key. Secrets have been taken out of it: a replay says null."""
    plain = json.loads(json.dumps(body, cls=DjangoJSONEncoder))
    IdempotencyKey.objects.filter(caller=caller, key=key).update(status=status, headers=headers, body=plain)


def last_event() -> int:
    """The latest event that this transaction has written so far."""
    return Event.objects.filter(transaction=CurrentTransaction()).aggregate(last=Max("id"))["last"] or 0


def changes_since(event_id: int) -> dict[str, list[dict[str, Any]]]:
    """What this transaction has created, changed and deleted, as its events tell it."""
    plan: dict[str, list[dict[str, Any]]] = {"created": [], "changed": [], "deleted": []}
    for event in Event.objects.filter(transaction=CurrentTransaction(), id__gt=event_id).order_by("id"):
        subject = {"type": event.subject_type, "id": event.subject_id, "name": event.subject_name}
        verb = event.action.rpartition(".")[2]
        if verb in CREATING:
            plan["created"].append({**subject, "after": event.after})
        elif verb == "delete":
            plan["deleted"].append({**subject, "before": event.before})
        else:
            plan["changed"].append({**subject, "before": event.before, "after": event.after})
    return plan
