"""What the control plane does for its hosts by the clock."""

import contextlib

import redis
import structlog
from celery import shared_task
from django.db import connection

from cloud.hosts import connections, reconcile, redis_acl, silence
from cloud.hosts.models import Host

log = structlog.get_logger(__name__)

ONE_RECONCILER = 0x9112E05  # an advisory lock: two reconcilers would only do the same work twice


@shared_task(name="hosts.note_silence")
def note_silence() -> None:
    silence.note()


@shared_task(name="hosts.limit_connections")
def limit_connections() -> None:
    with contextlib.suppress(redis.RedisError):  # the health page says when Redis is away
        connections.limit()


@shared_task(name="hosts.reconcile")
def reconcile_hosts() -> None:
    """Give Redis back what it may have forgotten, and open operations where seen is not what is wanted."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [ONE_RECONCILER])
        if not cursor.fetchone()[0]:
            return
    try:
        try:
            redis_acl.allow(*Host.objects.filter(lost_at=None))
        except redis.RedisError as error:
            log.warning("reconcile.redis_away", error=str(error))
        reconcile.reconcile()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [ONE_RECONCILER])
