"""The log forgets what is older than it is to be kept, and goes on after a restore: by functions of its owner alone.

So that the role which the control plane runs as needs no right to change events or their numbers.
"""

from django.db import migrations

LEAST_DAYS = 30

FUNCTIONS = f"""
CREATE FUNCTION events_forget(days integer, most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    forgotten bigint;
BEGIN
    IF days < {LEAST_DAYS} THEN
        RAISE EXCEPTION 'events are kept for {LEAST_DAYS} days at least, not %', days;
    END IF;
    PERFORM set_config('pgtrigger.ignore', '{{pgtrigger_append_only_affb7}}', true);
    DELETE FROM events_event WHERE id IN (
        SELECT id FROM events_event WHERE at < now() - make_interval(days => days) ORDER BY at LIMIT most
    );
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    PERFORM set_config('pgtrigger.ignore', '{{}}', true);
    RETURN forgotten;
END $$;

CREATE FUNCTION events_jump(distance bigint) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT setval('events_number',
        greatest(last_value, (SELECT max("transaction") FROM events_event)) + greatest(distance, 1)
    ) FROM events_number
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0004_own_numbers")]

    operations = [
        migrations.RunSQL(
            FUNCTIONS, "DROP FUNCTION events_forget(integer, integer); DROP FUNCTION events_jump(bigint);"
        ),
    ]
