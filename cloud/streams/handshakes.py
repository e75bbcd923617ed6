"""The opening handshake of a websocket (RFC 6455), which web answers as it answers any request."""

from collections.abc import Collection
from typing import Any, ClassVar

from django.http import HttpRequest
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from cloud.problems import Fault, Forbidden, Invalid

ASKED = ("Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version")


class NoWebsocket(Invalid):
    """The request does not open a websocket."""


class ForeignOrigin(Forbidden):
    """A page of another site tries to use the session that its visitor has here."""

    fix_by: ClassVar[Any] = "you"


def handshake(request: HttpRequest) -> bytes:
    """The head of the answer that opens a websocket. Raises NoWebsocket."""
    headers = Headers((name, request.headers[name]) for name in ASKED if name in request.headers)
    answer = ServerProtocol().accept(Request(request.path, headers))
    if answer.status_code != 101:
        words = "Open this as a websocket: GET with Upgrade: websocket (RFC 6455)."
        raise NoWebsocket(words, errors=[Fault("", words)])
    answer.headers["Cache-Control"] = "no-store"
    return answer.serialize()


def require_origin(request: HttpRequest, others: Collection[str], *, or_none: bool) -> None:
    """Raises ForeignOrigin unless the page that asks is ours. Browsers always say; `or_none`: programs need not."""
    origin = request.headers.get("Origin")
    ours = {f"{request.scheme}://{request.get_host()}", *others}
    if origin not in ours and not (origin is None and or_none):
        raise ForeignOrigin(
            f"A websocket is opened by pages of this cloud only, not by those of {origin or 'nowhere'}."
        )
