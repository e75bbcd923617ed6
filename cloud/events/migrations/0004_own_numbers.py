"""The log numbers its transactions by itself (docs/decisions/0018): PostgreSQL's own numbers do not survive a restore.

Old numbers stay, and new ones go on above them, so that nobody's cursor loses its place.
"""

import django.db.models.expressions
from django.db import migrations, models

# A writer first locks the newest number, and then takes the next one. So a lock that is seen, of the number n, says
# "what I write has a number above n", and a number above what was the newest *before* the locks were looked at can be
# given to nobody who was passed over. Locks go only when what they are about can be seen. The keys are negative: no
# other advisory lock here has one.
FUNCTIONS = """
CREATE SEQUENCE events_number AS bigint;

CREATE FUNCTION events_next_number() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    number text := nullif(current_setting('pileus.events_number', true), '');
BEGIN
    IF number IS NULL THEN
        PERFORM pg_advisory_xact_lock_shared(-last_value) FROM events_number;
        number := nextval('events_number');
        PERFORM set_config('pileus.events_number', number, true);
    END IF;
    RETURN number;
END $$;

CREATE FUNCTION events_horizon() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    newest bigint;
    held bigint;
BEGIN
    SELECT last_value INTO newest FROM events_number;
    SELECT min(-((classid::bigint << 32) | objid::bigint)) INTO held FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >= 2147483648
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RETURN 1 + least(newest, held);
END $$;
"""
WITHOUT_FUNCTIONS = """
DROP FUNCTION events_horizon();
DROP FUNCTION events_next_number();
DROP SEQUENCE events_number;
"""
# Whoever writes by the old numbers has ended when this has the table for itself.
GO_ON_ABOVE = """
LOCK TABLE events_event IN ACCESS EXCLUSIVE MODE;
SELECT setval('events_number', greatest(
    (SELECT max("transaction") FROM events_event), pg_current_xact_id()::text::bigint
));
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0003_search_by_time")]

    operations = [
        migrations.RunSQL(FUNCTIONS, WITHOUT_FUNCTIONS),
        migrations.RunSQL(GO_ON_ABOVE, migrations.RunSQL.noop),
        migrations.AlterField(
            "event",
            "transaction",
            models.BigIntegerField(
                db_default=django.db.models.expressions.Func(
                    function="events_next_number", output_field=models.BigIntegerField()
                )
            ),
        ),
        migrations.CreateModel(
            name="Place",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("cluster", models.BigIntegerField()),
                ("timeline", models.BigIntegerField()),
                ("table", models.BigIntegerField()),
            ],
        ),
    ]
