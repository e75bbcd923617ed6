"""Moments come from the database as Django reads them."""

from datetime import UTC, datetime

import pytest
from django.db import DataError, connection
from django.db.backends.postgresql.psycopg_any import BaseTzLoader

from cloud.database.base import Moment

pytestmark = pytest.mark.django_db
MOMENTS = [
    "2026-12-01 04:51:32+00", "2026-12-01 04:51:32.1+00", "2026-12-01 04:51:32.123456+02", "0001-01-01 00:00:00+00",
    "9998-12-31 23:59:59.999999+00", "1900-01-01 00:00:00+00:19:32",
]  # fmt: skip


class Djangos(BaseTzLoader):
    timezone = UTC


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_it_is_as_django_reads_it(moment, zone):
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('timezone', %s, true)", [zone])
        try:
            read = {}
            for loader in (Moment, Djangos):
                cursor.cursor.adapters.register_loader("timestamptz", loader)
                cursor.execute("SELECT %s::timestamptz", [moment])
                read[loader] = cursor.fetchone()[0]
        finally:
            cursor.execute("SET LOCAL timezone = 'UTC'")
    assert read[Moment] == read[Djangos]
    assert read[Moment].tzinfo == read[Djangos].tzinfo


def test_connections_read_them_so():
    with connection.cursor() as cursor:
        cursor.execute("SELECT '2026-12-01 04:51:32.12+00'::timestamptz, NULL::timestamptz")
        assert cursor.fetchone() == (datetime(2026, 12, 1, 4, 51, 32, 120_000, UTC), None)
        assert cursor.cursor.adapters.get_loader(1184, 0) is Moment


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC"])
def test_what_python_cannot_hold_is_refused_as_ever(moment):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [moment])
        with pytest.raises(DataError):
            cursor.fetchone()
