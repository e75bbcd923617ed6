"""The log forgets the oldest events of a project that has very many, so that no tenant fills the disk with events.

Never those of the last month: nobody pushes what they did out of the log by doing much more.
"""

from django.db import migrations

LEAST_DAYS = 30

FUNCTION = f"""
CREATE FUNCTION events_forget_of_projects(most bigint, at_once integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    forgotten bigint;
BEGIN
    PERFORM set_config('pgtrigger.ignore', '{{pgtrigger_append_only_affb7}}', true);
    DELETE FROM events_event WHERE id IN (
        SELECT old.id
        FROM (
            SELECT project_id, count(*) - most AS too_many FROM events_event WHERE project_id IS NOT NULL
            GROUP BY project_id HAVING count(*) > most
        ) AS full_ones
        CROSS JOIN LATERAL (
            SELECT id FROM events_event
            WHERE project_id = full_ones.project_id AND at < now() - make_interval(days => {LEAST_DAYS})
            ORDER BY "transaction", id LIMIT too_many
        ) AS old
        LIMIT at_once
    );
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    PERFORM set_config('pgtrigger.ignore', '{{}}', true);
    RETURN forgotten;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0005_forget")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION events_forget_of_projects(bigint, integer);"),
    ]
