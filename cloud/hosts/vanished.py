"""What a host no longer lists, although it was seen there well before its last heartbeat, is gone."""

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from cloud.hosts.hosted import GONE
from cloud.hosts.resources import HostedResource
from cloud.operations import engine

AT_ONCE = 100
SETTLING_SECONDS = 20  # a heartbeat under way may not list yet what a report has just said


def note(kind: HostedResource) -> None:
    """Write down that rows of this kind are gone from their hosts. What is to be done about it, reconciling finds."""
    meta = kind.model._meta
    ident = kind.id_column
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT r.{ident}, r.{meta.pk.column}, r.generation FROM {meta.db_table} r
                JOIN hosts_hostpulse p ON p.host_id = r.host_id
            WHERE r.seen = ANY(%s)
                AND p.seen_at > now() - make_interval(secs => %s)
                AND p.seen_at > r.seen_at + make_interval(secs => %s)
                AND NOT p.inventory @> jsonb_build_array(jsonb_build_object('type', %s::text, 'id', r.{ident}::text))
            ORDER BY r.{ident} LIMIT %s
            """,
            [list(kind.states), settings.UNREACHABLE_AFTER_SECONDS, SETTLING_SECONDS, kind.type, AT_ONCE],
        )
        vanished = cursor.fetchall()
    for resource_id, key, generation in vanished:
        with transaction.atomic():
            engine.lock(kind.type, resource_id)
            kind.model._default_manager.filter(pk=key, generation=generation).update(
                seen=GONE, seen_problem="Its host no longer has it.", seen_at=Now()
            )
