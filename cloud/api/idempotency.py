"""One key, one result: the answer to a mutation is remembered under its Idempotency-Key, in the same transaction."""

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection
from django.utils.crypto import salted_hmac

from cloud.api.models import IdempotencyKey
from cloud.problems import Fault, IdempotencyMismatch, Invalid

KEY_LIFE_HOURS = 24


def read_key(header: str | None) -> str | None:
    """The Idempotency-Key of a request; raises Invalid for one that is not 1 to 64 printable ASCII characters."""
    if header is None:
        return None
    if not 0 < len(header) <= 64 or not all(" " <= character <= "~" for character in header):
        message = "Idempotency-Key has 1 to 64 printable ASCII characters."
        raise Invalid(message, errors=[Fault("", message)])
    return header


def fingerprint(method: str, path: str, query: str, body: Any) -> str:
    """What makes a request the same one: method, path, query, and the body whatever the order of its members.

    Keyed: a body may hold a password, which nobody should be able to guess from what is kept.
    """
    canonical = json.dumps([method, path, query, body], sort_keys=True, separators=(",", ":"), default=str)
    return salted_hmac("idempotency", canonical, algorithm="sha256").hexdigest()


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
