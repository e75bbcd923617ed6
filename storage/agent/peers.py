"""Image files from the caches of other hosts. Nobody there is trusted: what comes is counted, and summed by the cache.

A peer is known by the fingerprint of its certificate, which the control plane names with its address, and nothing is
said to any other. It has little time: a peer that refuses, hangs or crawls is left for another source.
"""

import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any

import h11

from agent.work import Work

SECONDS_TO_CONNECT = 2.0
SECONDS_TO_ANSWER = 4.0  # for the handshake, and again for the head of the answer
SECONDS_OF_SILENCE = 4.0
SECONDS_BEFORE_SLOW = 8.0
MIN_BYTES_PER_SECOND = 1 << 20
MAX_HEAD = 8 << 10
MAX_WORDS = 200
PIECE = 1 << 16


class PeerFailed(Exception):
    """This peer did not serve the file. As a string: why, for operators."""


class PeerBusy(Exception):
    """It serves as many hosts as it can at once."""


@dataclass(frozen=True)
class Peer:
    """A host that has the file, as the control plane tells of it. `fingerprint`: the SHA-256 of its certificate."""

    id: str
    name: str
    address: str
    fingerprint: str
    ticket: str

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Peer":
        """Raises KeyError."""
        return cls(*(str(told[name]) for name in ("id", "name", "address", "fingerprint", "ticket")))

    def pieces(self, sha256: str, offset: int, size: int, work: Work) -> Iterator[bytes]:
        """A file of `size` bytes from an offset on. Raises PeerFailed, PeerBusy or Abandoned."""
        try:
            with closing(self._connect()) as connection:
                yield from _body(connection, self._request(sha256, offset), offset, size, work)
        except (OSError, ValueError, h11.ProtocolError) as error:
            raise PeerFailed(f"{type(error).__name__}: {error}"[:MAX_WORDS]) from error

    def _connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(split(self.address), SECONDS_TO_CONNECT)
        try:
            plain.settimeout(SECONDS_TO_ANSWER)
            connection = _context().wrap_socket(plain)
        except BaseException:
            plain.close()
            raise
        certificate = connection.getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(certificate).hexdigest(), self.fingerprint):
            connection.close()
            raise PeerFailed("its certificate is not the one that this host has reported")
        return connection

    def _request(self, sha256: str, offset: int) -> h11.Request:
        headers = [("Host", self.address), ("Authorization", f"Ticket {self.ticket}"), ("Connection", "close")]
        headers += [("Range", f"bytes={offset}-")] if offset else []
        return h11.Request(method="GET", target=f"/files/{sha256}", headers=headers)


def split(address: str) -> tuple[str, int]:
    """A host or an address, and the port: HOST:PORT, [IPV6]:PORT. Raises ValueError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{address!r} is no address with a port, such as 10.0.0.7:8490")
    return host, int(port)


@cache
def _context() -> ssl.SSLContext:
    """No authority says who a peer is: its fingerprint does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _body(connection: ssl.SSLSocket, request: h11.Request, offset: int, size: int, work: Work) -> Iterator[bytes]:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    connection.sendall((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    answer = _next(http, connection, time.monotonic() + SECONDS_TO_ANSWER)
    if not isinstance(answer, h11.Response):
        raise PeerFailed("it gave no answer")
    headers = dict(answer.headers)
    if answer.status_code == 503 and b"retry-after" in headers:
        raise PeerBusy
    if answer.status_code != (206 if offset else 200):
        raise PeerFailed(f"it answered {answer.status_code}: {_words(http, connection)}")
    whole = offset == 0 or headers.get(b"content-range") == f"bytes {offset}-{size - 1}/{size}".encode()
    if not whole or headers.get(b"content-length") != str(size - offset).encode():
        raise PeerFailed("its file has another size")
    counted, since = 0, time.monotonic()
    while True:
        work.check()
        event = _next(http, connection, time.monotonic() + SECONDS_OF_SILENCE)
        if not isinstance(event, h11.Data):
            return
        yield bytes(event.data)
        counted += len(event.data)
        now = time.monotonic()
        if now - since > SECONDS_BEFORE_SLOW:
            if counted < MIN_BYTES_PER_SECOND * (now - since):
                raise PeerFailed(f"it was too slow: {counted >> 10} KiB in {now - since:.0f} s")
            counted, since = 0, now


def _next(http: h11.Connection, connection: ssl.SSLSocket, deadline: float) -> Any:
    while (event := http.next_event()) is h11.NEED_DATA:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        http.receive_data(connection.recv(PIECE))
    return event


def _words(http: h11.Connection, connection: ssl.SSLSocket) -> str:
    event = _next(http, connection, time.monotonic() + SECONDS_TO_ANSWER)
    return bytes(event.data[:MAX_WORDS]).decode(errors="replace") if isinstance(event, h11.Data) else ""
