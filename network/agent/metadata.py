"""Metadata at 169.254.169.254 and fd00:ec2::254: what a guest may know of itself, over HTTP in its own network.

Who asks is known by the port that the packet came from: rules let each port speak to this address only from the
addresses that are its own, and nothing that a request says can change it. What is answered are pages that the host
gave for the port when its machine was plugged in. No control plane is needed.

The tree of EC2 answers only to session tokens (IMDSv2). Trees whose readers know no tokens (OpenStack, NoCloud) answer
without. All of them refuse what looks passed on by somebody: forwarding headers, another name in `Host`; and packets
leave with a hop limit of 1, so they get no further than the guest itself.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h11

from network.agent.networks import Problem, service_socket
from network.agent.rules import SERVICE_ADDRESS, SERVICE_ADDRESS6

PORT = 80
HOP_LIMIT = 1
MAX_REQUEST = 8192  # bytes of its head
MAX_PAGES = 1 << 20  # bytes of all pages of a guest
MAX_CONNECTIONS = 8  # of one port at a time
REQUESTS_PER_SECOND, MAX_BURST = 50.0, 200.0  # of one port
SECONDS_TO_EXCHANGE = 10.0
MAX_TOKEN_SECONDS = 21600

TOKEN_PATH = "latest/api/token"  # noqa: S105 - where one is asked for
TOKEN, TOKEN_TTL = "x-aws-ec2-metadata-token", "x-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105
FORWARDED = {"x-forwarded-for", "forwarded", "x-forwarded-host", "via"}
WITHOUT_TOKENS = ("openstack", "nocloud")
VERSIONS = {
    "": ("1.0", "2007-01-19", "2008-02-01", "2009-04-04", "2014-02-25", "2016-09-02", "2018-09-24", "2021-03-23"),
    "openstack": (
        "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
        "2020-10-14",
    ),
}  # fmt: skip
LATEST = "latest"


@dataclass(frozen=True)
class Guest:
    """What a port's machine may read: texts by path, like `openstack/latest/meta_data.json`. `key` makes its tokens."""

    pages: dict[str, str]
    key: bytes

    @classmethod
    def introduced(cls, pages: Any, before: "Guest | None") -> "Guest":
        """Raises Problem."""
        if not isinstance(pages, dict) or not all(isinstance(part, str) for page in pages.items() for part in page):
            raise Problem("the pages of a guest are texts by path")
        if sum(len(text.encode()) for text in pages.values()) > MAX_PAGES:
            raise Problem(f"the pages of a guest have more than {MAX_PAGES} bytes")
        return cls(pages, before.key if before else secrets.token_bytes(32))

    @classmethod
    def read(cls, text: str) -> "Guest":
        """Raises ValueError, KeyError."""
        kept = json.loads(text)
        return cls(kept["pages"], bytes.fromhex(kept["key"]))

    def written(self) -> str:
        return json.dumps({"pages": self.pages, "key": self.key.hex()})

    def token(self, seconds: int) -> str:
        """Good for so long, for this guest alone."""
        until = struct.pack("!Q", int(time.time()) + seconds)
        return base64.urlsafe_b64encode(until + self._signature(until)).decode()

    def owns(self, token: str) -> bool:
        with contextlib.suppress(ValueError):
            value = base64.b64decode(token, altchars=b"-_", validate=True)
            until, signature = value[:8], value[8:]
            is_genuine = hmac.compare_digest(signature, self._signature(until))
            return is_genuine and time.time() < struct.unpack("!Q", until)[0]
        return False

    def _signature(self, until: bytes) -> bytes:
        return hmac.digest(self.key, until, hashlib.sha256)


@dataclass(frozen=True)
class Reply:
    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    type: str = "text/plain; charset=utf-8"


def answer(request: h11.Request, guest: Guest) -> Reply:
    """The answer to a request of this guest."""
    headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
    if headers.keys() & FORWARDED:
        return Reply(403, "metadata is not for requests that were passed on\n")
    if not _is_asked_by_address(headers.get("host"), request.http_version):
        return Reply(403, "metadata is asked for by its address\n")
    target = request.target.decode("latin-1").partition("?")[0]
    if not target.startswith("/"):
        return Reply(400, "the target is a path\n")
    if not guest.pages:
        return Reply(404, "nothing is known of this machine\n")
    path = "/".join(part for part in target.split("/") if part)
    if path == TOKEN_PATH:
        return _token(request.method, headers.get(TOKEN_TTL, ""), guest)
    if request.method not in (b"GET", b"HEAD"):
        return Reply(405, "metadata is read\n", (("Allow", "GET, HEAD"),))
    if path.split("/")[0] not in WITHOUT_TOKENS and not guest.owns(headers.get(TOKEN, "")):
        return Reply(401, f"ask for a session token first: PUT /{TOKEN_PATH}\n")
    return _page(path, guest)


def _is_asked_by_address(host: str | None, http_version: bytes) -> bool:
    """Whether the request names the service by its address. A web page that DNS rebinding led here sends a name."""
    if host is None:
        return http_version == b"1.0"
    return host.removesuffix(f":{PORT}") in (SERVICE_ADDRESS, f"[{SERVICE_ADDRESS6}]")


def _token(method: bytes, ttl: str, guest: Guest) -> Reply:
    if method != b"PUT":
        return Reply(405, "a token is asked for by PUT\n", (("Allow", "PUT"),))
    if not re.fullmatch(r"[0-9]{1,5}", ttl) or not 1 <= int(ttl) <= MAX_TOKEN_SECONDS:
        return Reply(400, f"{TOKEN_TTL}: 1 to {MAX_TOKEN_SECONDS}\n")
    return Reply(200, guest.token(int(ttl)), ((TOKEN_TTL, ttl),))


def _page(path: str, guest: Guest) -> Reply:
    """A page, or the names of those below a path. Every version of a tree is the latest."""
    for tree, versions in VERSIONS.items():
        if path == tree:
            return Reply(200, "\n".join((*versions, LATEST)))
        inside = path.removeprefix(f"{tree}/") if tree else path
        version, _, rest = inside.partition("/")
        if version in versions and (not tree or path != inside):
            path = "/".join(part for part in (tree, LATEST, rest) if part)
    if path in guest.pages:
        is_json = path.endswith(".json") or path.endswith("/document")
        return Reply(200, guest.pages[path], type="application/json" if is_json else Reply.type)
    below = {page.removeprefix(f"{path}/") for page in guest.pages if page.startswith(f"{path}/")}
    names = {name.partition("/")[0] + ("/" if "/" in name else "") for name in below}
    names -= {name.removesuffix("/") for name in names if name.endswith("/")}  # what has a page and more below it
    return Reply(200, "\n".join(sorted(names))) if names else Reply(404, "there is no such page\n")


def listen(address: str) -> socket.socket:
    """In the present network namespace, on its bridge."""
    made = service_socket(address, PORT, socket.SOCK_STREAM)
    if ":" in address:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOP_LIMIT)
    made.listen(128)
    return made


@dataclass
class _Use:
    """What one port uses of this service."""

    connections: int = 0
    credit: float = MAX_BURST
    at: float = field(default_factory=time.monotonic)

    def may_ask(self) -> bool:
        now = time.monotonic()
        self.credit = min(MAX_BURST, self.credit + (now - self.at) * REQUESTS_PER_SECOND)
        self.at = now
        if self.connections >= MAX_CONNECTIONS or self.credit < 1:
            return False
        self.credit -= 1
        return True


class Server:
    """Answers the guests of this host's networks. `guests`: by port; those of one port share what it may use."""

    def __init__(self) -> None:
        self.guests: dict[str, Guest] = {}
        self._uses: dict[str, _Use] = defaultdict(_Use)
        self._tasks: set[asyncio.Task[None]] = set()

    def forget(self, port: str) -> None:
        """Answer nothing more to a port."""
        self.guests.pop(port, None)
        self._uses.pop(port, None)

    def accept(self, listener: socket.socket, ports: dict[str, str]) -> None:
        """Take a connection that has come. `ports`: of the listener's network, by address."""
        with contextlib.suppress(OSError):
            end, (source, *_) = listener.accept()
            end.setblocking(False)
            port = ports.get(source, "")
            guest, use = self.guests.get(port), self._uses[port]
            if not port or not use.may_ask():
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset: costs no memory
                end.close()
                return
            use.connections += 1
            task = asyncio.get_running_loop().create_task(self._converse(end, guest or Guest({}, b""), use))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _converse(self, end: socket.socket, guest: Guest, use: _Use) -> None:
        """One request, one answer."""
        try:
            with end, contextlib.suppress(OSError, h11.ProtocolError):
                async with asyncio.timeout(SECONDS_TO_EXCHANGE):
                    await self._exchange(end, guest)
        finally:
            use.connections -= 1

    async def _exchange(self, end: socket.socket, guest: Guest) -> None:
        loop = asyncio.get_running_loop()
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST)
        is_head = False
        try:
            while not isinstance(event := parser.next_event(), h11.Request):
                if event is not h11.NEED_DATA:
                    return
                parser.receive_data(await loop.sock_recv(end, MAX_REQUEST))
            is_head = event.method == b"HEAD"
            reply = answer(event, guest)
        except h11.RemoteProtocolError as error:
            reply = Reply(error.error_status_hint, "this is not HTTP as it is spoken here\n")
        await loop.sock_sendall(end, b"".join(_written(parser, reply, is_head)))
        end.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(end, MAX_REQUEST):  # what is left unread would reset the connection
            pass


def _written(parser: h11.Connection, reply: Reply, is_head: bool) -> Iterator[bytes]:
    body = reply.text.encode()
    fixed = (("Content-Type", reply.type), ("Content-Length", str(len(body))), ("Connection", "close"))
    yield parser.send(h11.Response(status_code=reply.status, headers=[*fixed, *reply.headers])) or b""
    if not is_head:
        yield parser.send(h11.Data(data=body)) or b""
    yield parser.send(h11.EndOfMessage()) or b""
