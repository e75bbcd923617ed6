"""How the rows of tests go again: rolled back, or, where tests have transactions of their own, deleted."""

import contextlib
import functools
from collections.abc import Iterator

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from cloud.events.place import note_place

# Empties the tables that have rows, whatever refers to whatever and may not be deleted.
DELETE_ALL = """
DO $$ DECLARE name text; found boolean; BEGIN
    SET LOCAL session_replication_role = replica;
    FOREACH name IN ARRAY string_to_array(current_setting('tests.tables'), ',') LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO found;
        IF found THEN EXECUTE format('DELETE FROM %I', name); END IF;
    END LOOP;
END $$
"""


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """What happens inside is rolled back. To the code under test it looks like the test's own transaction."""
    block = transaction.atomic()
    block._from_testcase = True
    with block:
        yield
        transaction.set_rollback(True)


@contextlib.contextmanager
def undone_at_last() -> Iterator[None]:
    """The same for the many tests of a module, between which there may be pauses."""
    with undone(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


def empty_tables(_: object) -> None:
    """What Django does after a test with transactions of its own, where it makes all tables anew, and then all that
    follows migrations. Here the few tables that have rows are emptied, which takes a tenth of the time."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('tests.tables', %s, true)", [",".join(_tables())])
        cursor.execute(DELETE_ALL)
    note_place()


@functools.cache
def _tables() -> list[str]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return sorted({*names} - {ContentType._meta.db_table, Permission._meta.db_table})
