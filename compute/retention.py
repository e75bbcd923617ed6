"""How long failed launches and unused console tickets are kept. Samples are packed and forgotten by their own task."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from cloud.events.services import SYSTEM
from cloud.retention import BATCH, delete, kept
from compute import services
from compute.models import ConsoleTicket, Instance


@kept("failed launches", Instance)
def failed_launches() -> int:
    """Like a user's delete of them, with its event."""
    over = Instance.objects.filter(failed_at__lt=Now() - timedelta(days=settings.KEEP_FAILED_LAUNCHES_DAYS))
    found = list(over.order_by("failed_at")[:BATCH])
    for instance in found:
        with transaction.atomic():
            services.delete(instance=instance, actor=SYSTEM)
    return len(found)


@kept("console tickets that were not used", ConsoleTicket)
def console_tickets() -> int:
    return delete(ConsoleTicket.objects.filter(expires_at__lt=Now()))
