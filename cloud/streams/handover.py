"""How web hands a client's connection over to the streams process: the open socket itself, through a Unix socket.

Web authenticates, authorises and limits the request as any other; then the connection is no longer web's, and its
thread is free. A message is one datagram of JSON with the socket beside it (SCM_RIGHTS).
"""

import json
import os
import socket
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.http import HttpResponse
from rest_framework.request import Request

from cloud.api.scope import Scope
from cloud.events.reading import Cursor

TIMEOUT = 0.2
LARGEST_MESSAGE = 8192


@dataclass(frozen=True)
class Caller:
    """Whose connection it is, and what must remain true for it to stay open."""

    user: str
    token: str | None
    session: str | None
    session_hash: str | None
    project: str | None  # None: an admin of the cloud, who follows all of it


@dataclass(frozen=True)
class Message:
    """One connection handed over, and what is wanted on it."""

    want: str  # "events" or "operation"
    caller: Caller
    request_id: str
    subject: str | None = None  # the operation's id
    after: str | None = None  # the cursor to begin behind
    seconds: int = 0

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, datagram: bytes) -> "Message":
        facts: dict[str, Any] = json.loads(datagram)
        return cls(**{**facts, "caller": Caller(**facts["caller"])})


class HandedOver(HttpResponse):
    """What the rest of web sees of a connection that is not its own any more. It reaches nobody."""


def wait_for_operation(request: Request, scope: Scope, operation_id: UUID, seconds: int) -> HandedOver | None:
    """Let streams answer when the operation has finished, or after so many seconds. None: it cannot."""
    return _hand_over(request, scope, scope.project_id, want="operation", subject=str(operation_id), seconds=seconds)


def follow_events(request: Request, scope: Scope, project: UUID | None, after: Cursor | None) -> HandedOver | None:
    """Let streams send the events of a project, or of the whole cloud, as they happen. None: it cannot."""
    return _hand_over(request, scope, project, want="events", after=str(after) if after else None)


def _hand_over(request: Request, scope: Scope, project: UUID | None, **wish: Any) -> HandedOver | None:
    client = request.META.get("gunicorn.socket")
    if type(client) is not socket.socket or request.META.get("HTTP_VERSION") == "2" or not settings.STREAMS_SOCKET:
        return None
    session = None if scope.token else request._request.session
    caller = Caller(
        user=str(scope.user.pk),
        token=str(scope.token.pk) if scope.token else None,
        session=session.session_key if session else None,
        session_hash=session.get(HASH_SESSION_KEY) if session else None,
        project=str(project) if project else None,
    )
    message = Message(caller=caller, request_id=scope.request_id, **wish)
    if not send(message, client):
        return None
    _forget(client)
    return HandedOver()


def send(message: Message, client: socket.socket) -> bool:
    """Whether streams has taken it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(TIMEOUT)
        try:
            line.connect(settings.STREAMS_SOCKET)
            socket.send_fds(line, [message.encode()], [client.fileno()])
        except OSError:
            return False
    return True


def _forget(client: socket.socket) -> None:
    """Put a dead socket in the place of the connection, so that nothing web still does to it reaches the client.

    gunicorn would write an answer, and shut the connection down: that acts on the connection itself, whoever else
    holds it. On the dead socket it finds a broken pipe, which it takes for a client that has gone.
    """
    dead, other = socket.socketpair()
    other.close()
    os.dup2(dead.fileno(), client.fileno())
    dead.close()
