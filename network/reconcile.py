"""Level-triggered repair: what a host that is reachable has not made true, and has no order for, is ordered again."""

from datetime import timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.functions import Now

from cloud.hosts.hosted import BROKEN, GONE, raise_generation
from cloud.hosts.models import Order
from cloud.hosts.silence import reachable_since
from network import hosting
from network.models import NetworkOnHost, RouterOnHost
from network.models.hosted import PRESENT, OnHost

log = structlog.get_logger(__name__)

AT_ONCE = 100
TRY_AGAIN_SECONDS = 60


def networks() -> None:
    _tell_of_tunnels()
    _order_again(NetworkOnHost)


def _tell_of_tunnels() -> None:
    """A host's tunnels end elsewhere now: it has another address, or its network process was late. The hosts that
    share networks with it are told. One that does not say keeps the end that it had: it may just be starting."""
    said = KeyTextTransform("vtep", KeyTransform("network", "host__capabilities"))
    moved = NetworkOnHost.objects.filter(wanted=True).annotate(said=said)
    moved = moved.filter(said__gt="").exclude(vtep=F("said"))
    for project, network in set(moved.values_list("network__project", "network")[:AT_ONCE]):
        with transaction.atomic():
            hosting.changed(project, networks=[network])
            for row in moved.filter(network=network):
                NetworkOnHost.objects.filter(pk=row.pk).update(vtep=row.said)
        log.info("reconcile.tunnels_moved", network=str(network))


def routers() -> None:
    _order_again(RouterOnHost)


def _order_again(model: type[OnHost]) -> None:
    """What a host has called broken is tried again after a while: what hindered it may have gone."""
    model._default_manager.filter(wanted=False, seen=GONE).delete()
    live = Order.objects.filter(resource_id=OuterRef("pk"), host=OuterRef("host"), answered_at=None)
    as_wanted = Q(wanted=True, seen=PRESENT) | Q(wanted=False, seen=GONE)
    drifted = (
        model._default_manager.filter(host__pulse__seen_at__gte=reachable_since())
        .exclude(as_wanted, seen_generation=F("generation"))
        .exclude(seen=BROKEN, seen_at__gt=Now() - timedelta(seconds=TRY_AGAIN_SECONDS))
        .exclude(Exists(live))
    )
    for key in drifted.order_by("pk").values_list("pk", flat=True)[:AT_ONCE]:
        with transaction.atomic():
            row = model._default_manager.select_for_update(of=("self",)).select_related("host").filter(pk=key).first()
            if row is None:
                continue
            if row.seen in (BROKEN, GONE) and row.seen_generation == row.generation:
                raise_generation(row)
            hosting.order(row)
        log.info("reconcile.ordered", kind=model.__name__, row=str(key), seen=row.seen)
