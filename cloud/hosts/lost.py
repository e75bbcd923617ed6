"""Hosts that an admin has declared lost: nothing is heard or asked of them any more, and what was there is given up.

Only a person may say so: a host that is silent may still run. Declaring it writes one row; the rest is done by the
reconciler, a resource at a time, until nothing of the cloud is on the host and it can be removed. Each kind of resource
says itself what becomes of its rows (`HostedResource.lose`).
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, OperationalError, models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from cloud.events.services import Actor, record
from cloud.hosts import redis_acl
from cloud.hosts.models import Allocation, Host, Order
from cloud.hosts.resources import HostedResource, Stake, kinds
from cloud.hosts.room import offer_room
from cloud.hosts.services import HostConflict
from cloud.hosts.silence import reachable_since
from cloud.operations import engine
from cloud.operations.workflow import Topic
from cloud.problems import Fault, Invalid, Problem

log = structlog.get_logger(__name__)


def declare(host: Host, *, actor: Actor, confirm: str, leave_behind: bool = False) -> Host:
    """Give a host up for good. `confirm` is its name. Declaring it twice is no error. `leave_behind`: also what it had
    in places that no other host reaches, such as a shared folder that is gone with it.

    Raises Invalid for another name, HostConflict while it is heard of.
    """
    host = Host.objects.select_for_update().get(pk=host.pk)
    if confirm != host.name:
        words = f"To declare it lost, write its name: {host.name}."
        raise Invalid(words, errors=[Fault("/confirm", words)])
    if host.lost_at is not None:
        return _leave_behind(host, actor) if leave_behind else host
    if Host.objects.filter(pk=host.pk, pulse__seen_at__gte=reachable_since()).exists():
        raise HostConflict(f"{host.name} is heard of. Drain and remove it, or switch it off before.")
    before = {"enabled": host.enabled}
    Host.objects.filter(pk=host.pk).update(lost_at=Now(), enabled=False, quarantined="")
    host.refresh_from_db()
    record("hosts.host.declare_lost", host, actor=actor, before=before, after={"lost": True})
    login = redis_acl.username(host)
    transaction.on_commit(lambda: redis_acl.revoke(login), robust=True)
    return _leave_behind(host, actor) if leave_behind else host


def _leave_behind(host: Host, actor: Actor) -> Host:
    if not host.leaves_behind:
        host.leaves_behind = True
        host.save(update_fields=["leaves_behind"])
        record("hosts.host.leave_behind", host, actor=actor, after={"leaves_behind": True})
    return host


def at_stake(host: Host) -> list[Stake]:
    """What changes when a host is declared lost, or has yet to be given up there."""
    found = [stake for kind in kinds() for stake in kind.at_stake(host)]
    return sorted(found, key=lambda stake: (stake.project, stake.type, stake.name))


def settle() -> None:
    """Give up what is on hosts that are lost, as far as it can be done now. What waits for room elsewhere is tried
    again with the next call."""
    for host in Host.objects.exclude(lost_at=None):
        Order.objects.filter(host=host, answered_at=None).update(answered_at=Now(), problem="")
        for kind, key in _rows(host):
            _lose(kind, key)
        _free(host)


def _rows(host: Host) -> Iterator[tuple[HostedResource, UUID]]:
    """Work first: a move that goes on would bring something here, or wait for what comes from here."""
    for kind in sorted(kinds(), key=lambda kind: not kind.is_work):
        rows = kind.model._default_manager.filter(host=host).order_by("pk")
        yield from ((kind, key) for key in list(rows.values_list("pk", flat=True)))


def _lose(kind: HostedResource, key: UUID) -> None:
    try:
        with transaction.atomic():
            known_as = kind.model._default_manager.filter(pk=key).values_list(kind.model.id_on_hosts, flat=True).first()
            if known_as is None:
                return
            live = engine.lock(kind.type, known_as)
            rows: models.QuerySet[Any] = kind.model._default_manager.select_related("host")
            if (row := rows.filter(pk=key).first()) is None:
                return
            kind.lose(row, live)
            if live is not None and live.outcome == "":
                engine.wake(live)
            engine.tell_waiting(Topic(kind.type, known_as))
    except (Problem, OperationalError, IntegrityError) as error:  # it waits for room elsewhere, or lost a race
        log.info("lost.not_yet", kind=kind.type, row=str(key), because=f"{type(error).__name__}: {error}")
    except Exception:  # it holds up no other
        log.exception("lost.failed", kind=kind.type, row=str(key))


def _free(host: Host) -> None:
    """What was still allocated for resources that have no row there any more."""
    kept = Q(pk=None)
    for kind in kinds():
        there = kind.model._default_manager.filter(host=host).values(kind.model.id_on_hosts)
        kept |= Q(resource_type=kind.type, resource_id__in=there)
    with transaction.atomic():
        if Allocation.objects.filter(host=host).exclude(kept).delete()[0]:
            offer_room()
