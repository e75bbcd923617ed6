"""How an instance's latest start went, step by step: from being asked for to the guest's own READY.

Everything but READY is known anyway. That line of the guest comes with its serial log, which hosts push within a
second; it says how long the kernel had been up, so when that began is known as well.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models.functions import Now

from cloud.hosts.models import Allocation, Order
from cloud.operations.models import Operation
from compute.models import ConsoleLog, Instance, Power
from compute.verbs import LAUNCH, WORK

READY = re.compile(rb"^READY \S+ (\d{1,6}(?:\.\d{1,6})?)\r?$", re.MULTILINE)
STARTING = [work.workflow.kind for work in WORK if work.boots]
SKEW = timedelta(seconds=5)  # a host's clock tells when its emulator started; one that is further off is not believed


@dataclass(frozen=True)
class Step:
    """`seconds` since it was asked for."""

    name: str
    at: datetime
    seconds: float


def hear(instance_id: UUID, *, offset: int, content: bytes) -> None:
    """Note when a guest has said READY for the first time since its last one, from the end of its serial log."""
    if said := list(READY.finditer(content)):
        place = offset + said[-1].start()
        ConsoleLog.objects.filter(instance_id=instance_id, ready_offset__lt=place).update(
            ready_offset=place, ready_seconds=float(said[-1][1]), ready_at=Now()
        )


def timeline(instance: Instance) -> list[Step]:
    """The steps of the latest start that are known so far, in order. The instance has its `seen_facts`."""
    asked = Operation.objects.filter(subject_id=instance.pk, kind__in=STARTING).order_by("-started_at").first()
    if asked is None:
        return []
    begun = asked.started_at
    moments = [("asked", begun), *_on_the_way(instance, asked), *_in_the_guest(instance, begun)]
    steps: list[Step] = []
    for name, moment in moments:
        at = max(moment, steps[-1].at) if steps else moment
        steps.append(Step(name, at, round((at - begun).total_seconds(), 2)))
    return steps


def _on_the_way(instance: Instance, asked: Operation) -> list[tuple[str, datetime]]:
    found, begun = [], asked.started_at
    allocation = Allocation.of("instance", instance.pk).filter(host=instance.host_id).first()
    if allocation and asked.kind == LAUNCH.workflow.kind:  # others start where they are
        found.append(("placed", allocation.created_at))
    orders = Order.objects.filter(resource_type="instance", resource_id=instance.pk, verb="ensure_running")
    if order := orders.filter(posted_at__gte=begun).order_by("posted_at").first():
        found.append(("ordered", order.posted_at))
    if instance.seen in (Power.RUNNING, Power.PAUSED) and (text := instance.seen_facts.get("started_at")):
        started = datetime.fromisoformat(text)
        if started >= begun - SKEW:
            found.append(("started", started))
    return found


def _in_the_guest(instance: Instance, begun: datetime) -> list[tuple[str, datetime]]:
    log = ConsoleLog.objects.filter(instance=instance, ready_at__gte=begun).defer("content").first()
    if log is None or log.ready_at is None:
        return []
    return [("kernel", log.ready_at - timedelta(seconds=log.ready_seconds or 0)), ("ready", log.ready_at)]
