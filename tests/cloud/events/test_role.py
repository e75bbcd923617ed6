"""The role that the control plane runs as can do its work, and nothing to the log that its work is not."""

import os

import psycopg
import pytest
from django.db import connection

from cloud.events import role
from cloud.events.models import Event
from cloud.retention import rules
from tests import factories
from tests.cloud.events.test_reading import happen
from tests.servers import database_url

pytestmark = pytest.mark.django_db(transaction=True)

NAME = f"app_{os.getpid()}"
APP = f"SET SESSION AUTHORIZATION {NAME}"


@pytest.fixture
def app(settings):
    """Everything of the test runs as the role from now on."""
    settings.DATABASE_ROLE, settings.DATABASE_ROLE_PASSWORD = NAME, "it's a secret; \\ %s"
    role.grant()
    role.grant()
    with connection.cursor() as cursor:
        cursor.execute(APP)
        yield cursor
        cursor.execute("RESET SESSION AUTHORIZATION")
        cursor.execute(f"DROP OWNED BY {NAME}")
        cursor.execute(f"DROP ROLE {NAME}")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events_event SET actor = 'somebody else'",
        "DELETE FROM events_event",
        "TRUNCATE events_event",
        "TRUNCATE tenancy_user CASCADE",
        "ALTER TABLE events_event DISABLE TRIGGER ALL",
        "SET pgtrigger.ignore = '{pgtrigger_append_only_affb7}'; DELETE FROM events_event",
        "DROP TRIGGER pgtrigger_append_only_affb7 ON events_event",
        "SET session_replication_role = replica",
        "SELECT setval('events_number', 1)",
        "SELECT events_forget(0, 1000)",
        "DROP TABLE events_event",
        "CREATE OR REPLACE FUNCTION events_horizon() RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        "DELETE FROM django_migrations",
        "CREATE ROLE another SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_it_cannot_touch_the_log_nor_the_tables(app, statement):
    happen(factories.project(), "stop")
    with pytest.raises(Exception, match=r"(?i)permission denied|must be owner|at least|only roles with|denied to set"):
        app.execute(statement)
    assert Event.objects.get().actor == "system"


def test_it_can_do_the_work_of_a_cloud(app, cloud):
    made = cloud.launch()
    cloud.settle()
    made.refresh_from_db()
    assert made.seen == "running"
    assert cloud.breaches() == []
    for rule in rules():
        rule.forget()


def test_its_password_may_hold_any_character(app, settings):
    with psycopg.connect(database_url()) as other:
        assert other.execute("SELECT rolpassword LIKE 'SCRAM%%' FROM pg_authid WHERE rolname = %s", [NAME]).fetchone()[
            0
        ]
