"""How long finished work is kept."""

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from cloud.operations.models import Operation
from cloud.retention import delete, kept


@kept("finished operations", Operation)
def operations() -> int:
    return delete(Operation.objects.filter(finished_at__lt=Now() - timedelta(days=settings.KEEP_OPERATIONS_DAYS)))
