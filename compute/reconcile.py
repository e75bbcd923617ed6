"""Level-triggered repair: where seen is not what is wanted, an operation is opened. One path to change."""

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from cloud.events.services import SYSTEM
from cloud.hosts.silence import reachable_since
from cloud.operations import engine
from compute import services
from compute.models import WISHES, Instance, Power
from compute.status import with_status
from compute.verbs import VERBS
from compute.why_not import ALIVE

log = structlog.get_logger(__name__)

AT_ONCE = 100
RESTORING = {verb.restores: verb for verb in VERBS.values() if verb.restores}
NEAREST = {Power.PAUSED: Power.RUNNING, Power.SUSPENDED: Power.STOPPED}
SETTLING_SECONDS = 20  # a heartbeat under way may not list yet what a report has just said


def reconcile() -> None:
    """Open an operation for every placed instance of a reachable host whose power is not what is wanted."""
    _notice_vanished()
    drifted = (
        with_status(Instance.objects.filter(host__pulse__seen_at__gte=reachable_since(), failed_at=None))
        .filter(live_kind=None)
        .filter(
            Q(seen_power__in=[Power.UNKNOWN, Power.GONE]) | Q(seen_power__in=WISHES) & ~Q(seen_power=F("wanted_power"))
        )
        # What its host has paused, for want of room, goes on by itself.
        .exclude(~Q(seen_problem=""), wanted_power=Power.RUNNING, seen_power=Power.PAUSED)
    )
    for instance in drifted.order_by("pk")[:AT_ONCE]:
        try:
            with transaction.atomic():
                _put_right(instance)
        except (engine.Busy, services.WrongState):
            continue
        log.info("reconcile.opened", instance=str(instance.pk), wanted=instance.wanted_power, seen=instance.seen_power)


def _put_right(instance: Instance) -> None:
    """Open the operation that makes true what is wanted; where the memory that it kept is lost, the nearest to it."""
    power = Power(instance.wanted_power)
    if instance.seen_power not in ALIVE:
        power = NEAREST.get(power, power)
    # What is suspended, or was to be, has nothing in its memory any more that a stop could ask for.
    force = Power.SUSPENDED in (instance.wanted_power, instance.seen_power)
    how = {"force": True} if power == Power.STOPPED and force else {}
    RESTORING[power].service(instance=instance, actor=SYSTEM, **how)


def _notice_vanished() -> None:
    """What a host no longer lists, although it was seen there well before its last heartbeat, is gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT i.id, i.generation FROM compute_instance i JOIN hosts_hostpulse p ON p.host_id = i.host_id
            WHERE i.seen_power IN ('running', 'stopped', 'paused', 'suspended')
                AND p.seen_at > now() - make_interval(secs => %s)
                AND p.seen_at > i.seen_at + make_interval(secs => %s)
                AND NOT p.inventory @> jsonb_build_array(jsonb_build_object('id', i.id::text))
            ORDER BY i.id LIMIT %s
            """,
            [settings.UNREACHABLE_AFTER_SECONDS, SETTLING_SECONDS, AT_ONCE],
        )
        vanished = cursor.fetchall()
    for instance_id, generation in vanished:
        with transaction.atomic():
            engine.lock("instance", instance_id)
            Instance.objects.filter(pk=instance_id, generation=generation).update(
                seen_power=Power.GONE, seen_problem="Its host no longer has it.", seen_at=Now()
            )
