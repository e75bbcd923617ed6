"""Where a user is signed in: which browser, from where, last seen when; and signing out there."""

from datetime import datetime, timedelta

from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from cloud.events.services import Actor, record
from cloud.tenancy.models import BrowserSession, User

NOTED_EVERY = timedelta(minutes=5)
NOTED = "noted"  # in the session: when, under which key


def note(session, user: User, *, address: str, browser: str) -> None:  # type: ignore[no-untyped-def]
    """Keep that a session was used, at most every few minutes."""
    at, key = session.get(NOTED) or ("", "")
    if key == session.session_key and timezone.now() - datetime.fromisoformat(at) < NOTED_EVERY:
        return
    session[NOTED] = [timezone.now().isoformat(), session.session_key]
    BrowserSession.objects.update_or_create(
        session_key=session.session_key,
        defaults={
            "user": user,
            "address": address[:64],
            "browser": browser[:255],
            "proof": user.get_session_auth_hash(),
            "last_seen_at": Now(),
        },
    )


def of(user: User) -> "QuerySet[BrowserSession]":
    """The user's sessions that still open something, the latest first."""
    live = Session.objects.filter(session_key=OuterRef("session_key"), expire_date__gt=Now())
    own = BrowserSession.objects.filter(Exists(live), user=user, proof=user.get_session_auth_hash())
    return own.order_by("-last_seen_at", "-id")


def end(*, sessions: "QuerySet[BrowserSession]", user: User, actor: Actor) -> int:
    """Sign out there. Returns how many sessions have ended."""
    keys = list(sessions.filter(user=user).values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    BrowserSession.objects.filter(session_key__in=keys).delete()
    if keys:
        record("tenancy.user.end_sessions", user, actor=actor, after={"sessions": len(keys)})
    return len(keys)
