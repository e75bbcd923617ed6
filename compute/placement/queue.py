"""Launches that wait for room. They look for it every half a minute; when there may be some, they are told."""

from django.db import transaction

from cloud.operations import engine
from cloud.operations.models import Operation

KINDS = ("compute.launch", "compute.launch_clone")
STEP = "place"
TOLD_AT_ONCE = 20


@transaction.atomic
def offer_room() -> None:
    """Have those that wait longest look now. Who is at work is not waited for: it has its look anyway."""
    waiting = Operation.objects.filter(kind__in=KINDS, step=STEP, finished_at=None).order_by("started_at", "pk")
    for operation in waiting.select_for_update(skip_locked=True)[:TOLD_AT_ONCE]:
        engine.wake(operation)
