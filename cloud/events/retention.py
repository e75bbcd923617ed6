"""How long events are kept. Nobody but this function of the database can take one out of the log."""

from django.conf import settings
from django.db import connection

from cloud.events.models import Event
from cloud.retention import BATCH, kept


@kept("events", Event)
def events() -> int:
    forgotten, rows = 0, BATCH
    with connection.cursor() as cursor:
        while rows == BATCH:
            cursor.execute("SELECT events_forget(%s, %s)", [settings.KEEP_EVENTS_DAYS, BATCH])
            rows = int(cursor.fetchone()[0])
            forgotten += rows
    return forgotten
