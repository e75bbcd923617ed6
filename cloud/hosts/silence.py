"""Hosts that fall silent and are heard again: noted once each, and told to the pages that show them.

Whether a host is reachable is derived from its last heartbeat wherever it is asked; going silent is nothing that
happens, so somebody has to look.
"""

import time
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from cloud.events.services import SYSTEM, record
from cloud.hosts.models import Host, HostPulse
from cloud.hosts.resources import kinds
from cloud.hosts.room import offer_room

_began = time.monotonic()


def reachable_since() -> CombinedExpression:
    """The moment before which a last heartbeat means: unreachable."""
    return Now() - timedelta(seconds=settings.UNREACHABLE_AFTER_SECONDS)


@transaction.atomic
def note() -> int:
    """Note the hosts that have fallen silent since the last look. Returns how many."""
    if time.monotonic() - _began < settings.UNREACHABLE_AFTER_SECONDS:
        return 0  # it may have been the control plane that was away
    silent = HostPulse.objects.select_for_update(skip_locked=True, of=("self",)).select_related("host")
    fallen = list(silent.filter(silent_since=None, seen_at__lt=reachable_since()).defer("inventory"))
    HostPulse.objects.filter(pk__in=[pulse.pk for pulse in fallen]).update(silent_since=F("seen_at"))
    for pulse in fallen:
        record("hosts.host.lose", pulse.host, actor=SYSTEM, after={"last_heard": pulse.seen_at})
        _hint(pulse.host)
    return len(fallen)


def end(host: Host) -> None:
    """A heartbeat is being noted: when it is the first after a silence, that is over."""
    pulse = HostPulse.objects.select_for_update().annotate(is_late=Q(seen_at__lt=reachable_since()))
    before = pulse.values("is_late", "silent_since").filter(host=host).first()
    if before is None:
        return  # the host is being removed
    if before["silent_since"]:
        HostPulse.objects.filter(host=host).update(silent_since=None)
        record("hosts.host.hear", host, actor=SYSTEM, after={"silent_since": before["silent_since"]})
    if before["is_late"]:
        _hint(host)
        offer_room()


def _hint(host: Host) -> None:
    """Have open pages look again at the host, and at what is on it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_notify('hints', json_build_object('project', null, 'type', 'host', 'id', %s::text)::text)",
            [host.pk],
        )
    for kind in kinds():
        kind.hint(host)
