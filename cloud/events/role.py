"""The role that the control plane runs as: it reads and writes rows, and owns nothing.

So whoever gets at it by a hole in the control plane changes no table, switches off no trigger, and takes no event out
of the log. Migrations run as the owner, and grant it what it needs (`PILEUS_DATABASE_ROLE` names it).
"""

from typing import Any

from django.conf import settings
from django.db import connection
from psycopg.sql import SQL, Identifier, Literal

GRANTS = """
GRANT CONNECT ON DATABASE {database} TO {role};
GRANT USAGE ON SCHEMA public TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role};
REVOKE UPDATE, DELETE ON events_event FROM {role};
REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {role};
"""


def grant(**of_signal: Any) -> None:
    """After each migration: make the role that is named, unless it is there, and grant it what it needs."""
    role, password = settings.DATABASE_ROLE, settings.DATABASE_ROLE_PASSWORD
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, current_database(), EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", [role]
        )
        me, database, there = cursor.fetchone()
        if role in ("", me):
            return
        names = {"role": Identifier(role), "database": Identifier(database)}
        if not there:
            cursor.execute(SQL("CREATE ROLE {role} LOGIN").format(**names))
        if password:
            cursor.execute(SQL("ALTER ROLE {role} PASSWORD {password}").format(**names, password=Literal(password)))
        cursor.execute(SQL(GRANTS).format(**names))
