"""What is tidied up by the clock."""

from datetime import timedelta
from typing import Any

from celery import shared_task
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.db.models.functions import Now

from cloud.api.idempotency import KEY_LIFE_HOURS
from cloud.api.models import IdempotencyKey
from cloud.tenancy.models import BrowserSession, Token

EXPIRED_TOKENS_KEPT = timedelta(days=30)  # their owners may wonder why something stopped working
BATCH = 5000


@shared_task(name="api.tidy")
def tidy() -> None:
    """Forget answers, sessions and tokens whose time is long over, a batch at a time."""
    _forget(IdempotencyKey.objects.filter(created_at__lt=Now() - timedelta(hours=KEY_LIFE_HOURS)))
    _forget(Session.objects.filter(expire_date__lt=Now()))
    gone = BrowserSession.objects.exclude(session_key__in=Session.objects.values("session_key"))
    _forget(gone.filter(last_seen_at__lt=Now() - timedelta(days=1)))
    _forget(Token.objects.filter(expires_at__lt=Now() - EXPIRED_TOKENS_KEPT))


def _forget(rows: QuerySet[Any]) -> None:
    while True:
        batch = list(rows.values_list("pk", flat=True)[:BATCH])
        rows.model.objects.filter(pk__in=batch).delete()
        if len(batch) < BATCH:
            return
