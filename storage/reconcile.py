"""Level-triggered repair: what a host that is reachable has not made true of a volume is ordered again."""

from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now

from cloud.hosts.hosted import BROKEN, GONE, raise_generation
from cloud.hosts.models import Order
from cloud.hosts.silence import reachable_since
from cloud.operations.models import Operation
from storage import hosting
from storage.models import VolumeOnHost
from storage.models.hosted import PRESENT

log = structlog.get_logger(__name__)

AT_ONCE = 100
TRY_AGAIN_SECONDS = 60


def volumes() -> None:
    """What a host has called broken is tried again after a while: what hindered it may have gone.

    A layer that was there once is never made anew: one that is lost is a problem in words, not an empty disk.
    """
    ordered = Order.objects.filter(resource_id=OuterRef("volume_id"), host=OuterRef("host"), answered_at=None)
    at_work = Operation.objects.filter(subject_type="volume", subject_id=OuterRef("volume_id"), finished_at=None)
    drifted = (
        VolumeOnHost.objects.filter(host__pulse__seen_at__gte=reachable_since())
        .exclude(seen=PRESENT, seen_generation=F("generation"))
        .exclude(seen=BROKEN, seen_at__gt=Now() - timedelta(seconds=TRY_AGAIN_SECONDS))
        .exclude(Exists(ordered) | Exists(at_work))
    )
    for key in drifted.order_by("pk").values_list("pk", flat=True)[:AT_ONCE]:
        with transaction.atomic():
            row = VolumeOnHost.objects.select_for_update(of=("self",)).select_related("host").filter(pk=key).first()
            if row is None:
                continue
            if not row.wanted and row.has_been_seen(GONE):
                hosting.forget(row)
                continue
            if row.seen in (BROKEN, GONE) and row.seen_generation == row.generation:
                raise_generation(row)
            hosting.order(row)
        log.info("reconcile.ordered", kind="volume", row=str(key), seen=row.seen)
