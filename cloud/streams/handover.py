"""How web hands a client's connection over to the streams process: the open socket itself, through a Unix socket.

Web authenticates, authorises and limits the request as any other; then the connection is no longer web's, and its
thread is free. A message is one datagram of JSON with the socket beside it (SCM_RIGHTS).
"""

import contextlib
import json
import os
import socket
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.http import HttpResponse
from rest_framework.request import Request

from cloud.api.scope import Scope
from cloud.events.reading import Cursor
from cloud.tenancy.models import Role

TIMEOUT = 0.2
SECONDS_TO_ANSWER = 3.0  # streams waits two for the host
MAX_MESSAGE = 8192
MAX_ANSWER = 16 << 20  # bytes: twice what a host keeps of a log


@dataclass(frozen=True)
class Caller:
    """Whose connection it is, and what must remain true for it to stay open."""

    user: str
    token: str | None
    session: str | None
    session_hash: str | None
    project: str | None  # None: an admin of the cloud, who follows all of it
    role: str = Role.VIEWER  # the least that it needs in the project
    instance: str | None = None  # whose console it is, and on which host that has to stay
    host: str | None = None


@dataclass(frozen=True)
class Message:
    """One connection handed over, and what is wanted on it."""

    want: str  # "events", "operation", "console", "host" (a host's own line), "answer" (web asks a host)
    caller: Caller | None = None
    request_id: str = ""
    subject: str | None = None  # the operation's id
    after: str | None = None  # the cursor to begin behind
    seconds: int = 0
    host: str | None = None
    wish: dict[str, Any] = field(default_factory=dict)  # of the host
    head: str = ""  # of the answer that opens a websocket

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, datagram: bytes) -> "Message":
        facts: dict[str, Any] = json.loads(datagram)
        return cls(**{**facts, "caller": Caller(**facts["caller"]) if facts["caller"] else None})


class HandedOver(HttpResponse):
    """What the rest of web sees of a connection that is not its own any more. It reaches nobody."""


def wait_for_operation(request: Request, scope: Scope, operation_id: UUID, seconds: int) -> HandedOver | None:
    """Let streams answer when the operation has finished, or after so many seconds. None: it cannot."""
    return _hand_over(request, scope, scope.project_id, want="operation", subject=str(operation_id), seconds=seconds)


def follow_events(request: Request, scope: Scope, project: UUID | None, after: Cursor | None) -> HandedOver | None:
    """Let streams send the events of a project, or of the whole cloud, as they happen. None: it cannot."""
    return _hand_over(request, scope, project, want="events", after=str(after) if after else None)


def open_console(
    request: Request, scope: Scope, project: UUID, *, instance: UUID, host: UUID, wish: dict[str, Any], head: bytes
) -> HandedOver | None:
    """Let streams connect a person's websocket to a machine's console. None: it cannot."""
    stays = {"role": Role.MEMBER, "instance": str(instance), "host": str(host)}
    return _hand_over(
        request, scope, project, stays=stays, want="console", host=str(host), wish=wish, head=head.decode()
    )


def keep_line(request: Request, host: UUID, head: bytes) -> HandedOver | None:
    """Let streams keep a host's line. None: it cannot."""
    return _hand_over_socket(request, Message(want="host", host=str(host), head=head.decode()))


def ask_host(host: UUID, wish: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What a host answers, over its line, and what it sends then, as far as MAX_ANSWER goes. {"code": …} when it does
    not, or refuses."""
    answer = bytearray()
    try:
        with contextlib.closing(_answered(host, wish)) as pieces:
            for piece in pieces:
                answer += piece
                if len(answer) > MAX_ANSWER:
                    break
    except OSError:
        return {"code": "host_unreachable"}, b""
    said, _, content = bytes(answer).partition(b"\n")
    return json.loads(said) if said else {"code": "host_unreachable"}, content


def ask_facts(host: UUID, wish: dict[str, Any]) -> dict[str, Any]:
    """What a host answers at once, in three seconds at most; what it sends then is not waited for."""
    said = bytearray()
    with contextlib.suppress(OSError), contextlib.closing(_answered(host, wish)) as pieces:
        for piece in pieces:
            said += piece
            if b"\n" in piece:
                return dict(json.loads(said.partition(b"\n")[0]))
    return {"code": "host_unreachable"}


def _answered(host: UUID, wish: dict[str, Any]) -> Generator[bytes]:
    """Raises OSError when streams does not answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if not send(Message(want="answer", host=str(host), wish=wish), theirs):
            raise ConnectionRefusedError("streams does not listen")
        theirs.close()
        ours.settimeout(SECONDS_TO_ANSWER)
        while piece := ours.recv(64 << 10):
            yield piece


def _hand_over(
    request: Request, scope: Scope, project: UUID | None, *, stays: dict[str, str] | None = None, **wish: Any
) -> HandedOver | None:
    session = None if scope.token else request._request.session
    caller = Caller(
        user=str(scope.user.pk),
        token=str(scope.token.pk) if scope.token else None,
        session=session.session_key if session else None,
        session_hash=session.get(HASH_SESSION_KEY) if session else None,
        project=str(project) if project else None,
        **(stays or {}),
    )
    return _hand_over_socket(request, Message(caller=caller, request_id=scope.request_id, **wish))


def _hand_over_socket(request: Request, message: Message) -> HandedOver | None:
    client = request.META.get("gunicorn.socket")
    if type(client) is not socket.socket or request.META.get("HTTP_VERSION") == "2" or not settings.STREAMS_SOCKET:
        return None
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
