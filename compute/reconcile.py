"""Level-triggered repair: where seen is not what is wanted, an operation is opened. One path to change."""

import structlog
from django.db import transaction
from django.db.models import F, Q

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


def reconcile() -> None:
    """Open an operation for every placed instance of a reachable host whose power is not what is wanted."""
    drifted = (
        with_status(Instance.objects.filter(machine__host__pulse__seen_at__gte=reachable_since(), failed_at=None))
        .filter(live_kind=None)
        .filter(
            Q(machine__seen__in=[Power.UNKNOWN, Power.GONE])
            | Q(machine__seen__in=WISHES) & ~Q(machine__seen=F("wanted_power"))
        )
        # What its host has paused, for want of room, goes on by itself.
        .exclude(~Q(machine__seen_problem=""), wanted_power=Power.RUNNING, machine__seen=Power.PAUSED)
        # Its memory may well be on the host's disk: a report will tell.
        .exclude(wanted_power=Power.SUSPENDED, machine__seen=Power.UNKNOWN)
    )
    for instance in drifted.order_by("pk")[:AT_ONCE]:
        try:
            with transaction.atomic():
                _put_right(instance)
        except (engine.Busy, services.WrongState):
            continue
        log.info("reconcile.opened", instance=str(instance.pk), wanted=instance.wanted_power, seen=instance.seen)


def _put_right(instance: Instance) -> None:
    """Open the operation that makes true what is wanted; where the memory that it kept is lost, the nearest to it."""
    power = Power(instance.wanted_power)
    if instance.seen not in ALIVE:
        power = NEAREST.get(power, power)
    # What is suspended, or was to be, has nothing in its memory any more that a stop could ask for.
    force = Power.SUSPENDED in (instance.wanted_power, instance.seen)
    how = {"force": True} if power == Power.STOPPED and force else {}
    RESTORING[power].service(instance=instance, actor=SYSTEM, **how)
