"""Reports in: what a host sees, written under the operation's lock, which then looks again."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from cloud.events.services import Actor, record
from cloud.hosts import orders, shapes
from cloud.hosts.hosted import BROKEN, GONE, Hosted, catch_up
from cloud.hosts.models import Allocation, Host, Order
from cloud.hosts.resources import HostedResource, Report, kind_of
from cloud.hosts.room import offer_room
from cloud.operations import engine
from cloud.operations.workflow import Topic
from cloud.problems import Fault, Invalid
from cloud.queries import Prepared
from cloud.saving import update

MAX_PROBLEM = 2000  # characters
MAX_FAULTS = 20


@dataclass(frozen=True)
class Accepted:
    """The report is news, and has been written."""


@dataclass(frozen=True)
class Outdated:
    """The report is about another generation, another host's resource, or older than what is known."""

    generation: int


@transaction.atomic
def receive(report: Report) -> Accepted | Outdated:
    """Write what a host sees, answer the order that it belongs to, and wake what may wait for it.

    Raises Invalid for a kind of resource that is not known, for a state that its kind does not have, and for facts that
    are not of the shape that its kind gives them.
    """
    kind = _kind(report)
    operation = engine.lock(kind.type, report.resource_id)
    row = _lock(kind, report)
    verdict = _write(kind, row, report) if row else _bury(kind, report)
    if isinstance(verdict, Accepted):
        orders.answer(report.host, kind.type, report.resource_id, report.generation)
        engine.wake(operation)
        engine.tell_waiting(Topic(kind.type, report.resource_id))
    return verdict


def _lock(kind: HostedResource, report: Report) -> Hosted | None:
    """The row on the host that reports, locked; before it what it is the incarnation of."""
    subjects, rows = _locked(kind)
    subject = subjects.first(report.resource_id) if kind.within else None
    row = rows.first(report.resource_id, report.host.pk)
    if row and kind.within:
        setattr(row, kind.within, subject)
    return row


@cache
def _locked(kind: HostedResource) -> "tuple[Prepared[Any], Prepared[Hosted]]":
    """The queries for what rows of a kind are the incarnation of, and for the row on a host."""
    subjects, rows = kind.subject._default_manager, kind.model._default_manager
    known_as = kind.model.id_on_hosts
    return (
        Prepared(lambda ident: subjects.select_for_update().filter(pk=ident)),
        Prepared(lambda ident, host: rows.select_for_update().filter(**{known_as: ident, "host": host})),
    )


def _kind(report: Report) -> HostedResource:
    kind = kind_of(report.resource_type)
    if kind is None:
        words = f"This control plane knows no resources of the type {report.resource_type}."
        raise Invalid(words, errors=[Fault("/resource/type", words)])
    if not kind.takes(report.seen):
        words = f"This control plane knows no {kind.type} that is {report.seen}."
        raise Invalid(words, errors=[Fault("/seen", words)])
    if wrong := list(shapes.faults(report.facts, {**shapes.FACTS, **kind.facts}, "/facts")):
        raise Invalid("The facts of this report are not of the right shape.", errors=wrong[:MAX_FAULTS])
    return kind


def _write(kind: HostedResource, row: Hosted, report: Report) -> Accepted | Outdated:
    if "refused" in report.facts:
        return _overtake(kind, row, report)
    if report.generation != row.generation or report.sequence <= row.seen_sequence:
        return Outdated(row.generation)
    before = row.seen
    row.seen = report.seen
    row.seen_generation = report.generation
    row.seen_sequence = report.sequence
    row.seen_problem = str(report.facts.get("problem") or "")[:MAX_PROBLEM]
    row.seen_facts = report.facts
    row.seen_at = Now()
    update(row, "seen", "seen_generation", "seen_sequence", "seen_problem", "seen_facts", "seen_at")
    if before != report.seen and (report.seen == BROKEN or not kind.is_work):
        record(
            f"{row._meta.app_label}.{kind.type}.seen",
            getattr(row, kind.within) if kind.within else row,
            actor=Actor(f"host {report.host.name}"),
            before={kind.seen_as: before},
            after={kind.seen_as: report.seen, "problem": row.seen_problem},
        )
    kind.noticed(row, before)
    return Accepted()


def _bury(kind: HostedResource, report: Report) -> Accepted | Outdated:
    """No row has it on this host. All that matters is that it is gone: then what it occupied there is free again."""
    elsewhere = kind.rows([report.resource_id]).first()
    if report.seen != GONE or (elsewhere and not _live_order(report)):
        return Outdated(elsewhere.generation if elsewhere else 0)
    Allocation.of(kind.type, report.resource_id).filter(host=report.host).delete()
    offer_room()
    return Accepted()


def _overtake(kind: HostedResource, row: Hosted, report: Report) -> Outdated:
    """The host's ledger is ahead: after a restored database, order again with a number that it will take."""
    ledger = int(report.facts["refused"].get("ledger_generation", 0))
    if ledger > row.generation:
        if catch_up(row, ledger):
            if live := _live_order(report):
                orders.post(report.host, kind.type, report.resource_id, live.verb, row.generation)
        else:
            Host.objects.filter(pk=report.host.pk).update(
                quarantined=f"its ledger has generation {ledger} of the {kind.type} {report.resource_id}, "
                f"which is at {row.generation}"
            )
    return Outdated(row.generation)


def _live_order(report: Report) -> Order | None:
    return Order.objects.filter(
        host=report.host, resource_type=report.resource_type, resource_id=report.resource_id, answered_at=None
    ).first()
