"""How long answers, sessions and tokens are kept."""

from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db.models.functions import Now

from cloud.api.idempotency import KEY_LIFE_HOURS
from cloud.api.models import IdempotencyKey
from cloud.retention import beyond, delete, kept
from cloud.tenancy.models import BrowserSession, Token

EXPIRED_TOKENS_KEPT = timedelta(days=30)  # their owners may wonder why something stopped working
MAX_KEYS = 10_000  # of one caller
MAX_SESSIONS = 100  # of one user


@kept("answers under an Idempotency-Key", IdempotencyKey)
def answers() -> int:
    over = delete(IdempotencyKey.objects.filter(created_at__lt=Now() - timedelta(hours=KEY_LIFE_HOURS)))
    return over + delete(beyond(IdempotencyKey.objects.exclude(status=0), MAX_KEYS, of="caller", newest="created_at"))


@kept("sessions of browsers", Session, BrowserSession)
def sessions() -> int:
    many = beyond(BrowserSession.objects.all(), MAX_SESSIONS, of="user", newest="last_seen_at")
    ended = delete(Session.objects.filter(session_key__in=many.values("session_key")))
    ended += delete(Session.objects.filter(expire_date__lt=Now()))
    gone = BrowserSession.objects.exclude(session_key__in=Session.objects.values("session_key"))
    return ended + delete(gone.filter(last_seen_at__lt=Now() - timedelta(days=1)))


@kept("expired API tokens", Token)
def tokens() -> int:
    return delete(Token.objects.filter(expires_at__lt=Now() - EXPIRED_TOKENS_KEPT))
