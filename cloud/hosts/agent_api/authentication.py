"""A host proves itself with the token it got when it joined."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from cloud.hosts.models import Host
from cloud.hosts.services import digest
from cloud.problems import Unauthenticated
from cloud.queries import Prepared

LOST = (
    "This host was declared lost, and what was on it has been given up. Stop its agent, wipe its home folder and have "
    "the machine join again as a new host."
)


@Prepared
def _hosts(token_digest: Any) -> "QuerySet[Host]":
    return Host.objects.filter(token_digest=token_digest)


class HostAuthentication(BaseAuthentication):
    """`Authorization: Bearer pileus-host-…` → request.user is the Host."""

    def authenticate(self, request: Request) -> tuple[Host, str] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        host = _hosts.first(digest(token.strip()))
        if host is None:
            raise AuthenticationFailed("This host token is not known.")
        if host.lost_at is not None:
            raise Unauthenticated(LOST, extra={"declared_lost": True})  # the agent ends its emulators: agent.host
        return host, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="pileus hosts"'


class IsHost(BasePermission):
    """Only hosts speak this API; people have their own."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, Host)
