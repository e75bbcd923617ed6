"""Who sends a request: a bearer token, kept only as its SHA-256, or a session of the browser with CSRF protection."""

import hashlib
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now
from rest_framework import authentication
from rest_framework.request import Request

from cloud.problems import Unauthenticated
from cloud.queries import Prepared
from cloud.tenancy.models import Token, User

USE_NOTED_EVERY = timedelta(minutes=1)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@Prepared
def _tokens(digest: Any) -> "QuerySet[Token]":
    """Those that are good now: a revoked one, and one of a user who may not sign in, is none from that moment."""
    good = Token.objects.filter(digest=digest, expires_at__gt=Now(), user__is_active=True)
    return good.select_related("user").annotate(now=Now())


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer …`"""

    def authenticate(self, request: Request) -> tuple[User, Token] | None:
        header = request.headers.get("Authorization", "")
        scheme, _, secret = header.partition(" ")
        if not header or scheme.lower() != "bearer":
            return None
        token = _tokens.first(digest(secret.strip()))
        if token is None:
            raise Unauthenticated("This token is unknown, expired or revoked.")
        now = token.now  # type: ignore[attr-defined]
        if token.last_used_at is None or now - token.last_used_at > USE_NOTED_EVERY:
            note_use(token)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="pileus"'


def note_use(token: Token) -> None:
    """Keep when a token was last used, to the minute, waiting for nobody who does the same."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE tenancy_token SET last_used_at = now()
            WHERE id = (SELECT id FROM tenancy_token WHERE id = %s FOR NO KEY UPDATE SKIP LOCKED)
            """,
            [token.pk],
        )


class SessionAuthentication(authentication.SessionAuthentication):
    """The dashboard's session: every change needs the CSRF token."""
