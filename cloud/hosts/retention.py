"""How long answered orders and join tokens are kept."""

from datetime import timedelta

from django.db.models.functions import Now

from cloud.hosts import load
from cloud.hosts.models import HostLoad, JoinToken, Order
from cloud.retention import delete, kept

# Ledgers remember a resource that is gone for 30 days; its last order says with which generation to begin again.
ANSWERED_ORDERS_KEPT = timedelta(days=60)
JOIN_TOKENS_KEPT = timedelta(days=30)


@kept("answered orders", Order)
def orders() -> int:
    return delete(Order.objects.filter(answered_at__lt=Now() - ANSWERED_ORDERS_KEPT))


@kept("join tokens that were used or have expired", JoinToken)
def join_tokens() -> int:
    return delete(JoinToken.objects.filter(expires_at__lt=Now() - JOIN_TOKENS_KEPT))


@kept("the load of hosts", HostLoad)
def loads() -> int:
    return load.forget()
