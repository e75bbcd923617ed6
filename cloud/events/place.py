"""Where the log is: which cluster, on which timeline, as which table. Another place means that it was restored.

A restored log ends before what some readers have seen. Its numbers jump above all that may have been given out, so that
a cursor from the lost end still misses nothing that is written from now on. docs/decisions/0018 has the whole of it.
"""

from typing import Any

import structlog
from django.db import connection, transaction

from cloud.events.models import Place

log = structlog.get_logger(__name__)

JUMP = 10**10  # more transactions than a cloud writes between two backups, and room for 100 million restores
PRESENT_PLACE = """
    SELECT system_identifier, timeline_id, 'events_event'::regclass::oid::bigint
    FROM pg_control_system(), pg_control_checkpoint()
"""


def note_place(**of_signal: Any) -> None:
    """After each migration: go on at a distance when this is not the database that the last numbers were given in."""
    with transaction.atomic():
        present, known = _present(), Place.objects.select_for_update().first()
        if known is None:
            Place.objects.create(**present)
        elif present != {name: getattr(known, name) for name in present}:
            Place.objects.filter(pk=known.pk).update(**present)
            _jump()


def is_as_noted() -> bool:
    """Whether new events come behind all that anybody has seen."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT last_value >= coalesce((SELECT max("transaction") FROM events_event), 0) FROM events_number'
        )
        above = bool(cursor.fetchone()[0])
    return above and Place.objects.filter(**_present()).exists()


def put_right() -> None:
    """Go on at a distance from all that is there."""
    Place.objects.update_or_create(defaults=_present())
    _jump()


def _present() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(PRESENT_PLACE)
        return dict(zip(("cluster", "timeline", "table"), cursor.fetchone(), strict=True))


def _jump() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT events_jump(%s)", [JUMP])
        log.warning("events.restored", numbers_go_on_at=cursor.fetchone()[0])
