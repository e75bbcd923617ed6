"""How long events are kept, and how many. Nobody but functions of the database can take one out of the log."""

from django.conf import settings
from django.db import connection, transaction

from cloud.events.models import Event
from cloud.retention import BATCH, kept

FORGET_OLD = "SELECT events_forget(%s, %s)"
FORGET_OF_PROJECTS = "SELECT events_forget_of_projects(%s, %s)"


@kept("events", Event)
def events() -> int:
    return _forget(FORGET_OLD, settings.KEEP_EVENTS_DAYS) + _forget(FORGET_OF_PROJECTS, settings.KEEP_EVENTS_OF_PROJECT)


def _forget(by: str, limit: int) -> int:
    forgotten, rows = 0, BATCH
    while rows == BATCH:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '60s'")  # the whole log is counted
            cursor.execute(by, [limit, BATCH])
            rows = int(cursor.fetchone()[0])
        forgotten += rows
    return forgotten
