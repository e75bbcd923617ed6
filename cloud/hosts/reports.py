"""Reports in: what a host sees, written under the operation's lock, which then looks again."""

from django.db import transaction

from cloud.hosts import orders
from cloud.hosts.resources import Accepted, Outdated, Report, kind_of
from cloud.operations import engine
from cloud.operations.workflow import Topic


@transaction.atomic
def receive(report: Report) -> Accepted | Outdated:
    """Write one sighting, answer the order it belongs to, and wake the operation that may wait for it."""
    kind = kind_of(report.resource_type)
    if kind is None:
        return Outdated(0)
    operation = engine.lock(report.resource_type, report.resource_id)
    verdict = kind.record(report)
    if isinstance(verdict, Accepted):
        orders.answer(report.host, report.resource_type, report.resource_id, report.generation)
        engine.wake(operation)
        engine.tell_waiting(Topic(report.resource_type, report.resource_id))
    return verdict
