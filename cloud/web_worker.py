"""Web's worker: gunicorn's with threads, except that nothing slow ever holds a thread, or the loop.

A connection waits in the poller until all of a request is there, in memory and within bounds of bytes and time; only
then does a thread get it, which then never waits for its client. What is half-sent gives way when it becomes too much:
the oldest connection, or the one that holds most memory. Closing, too, waits for nobody.
"""

import contextlib
import errno
import json
import resource
import selectors
import socket
import struct
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import TConn, ThreadWorker

from cloud.arrivals import Arrival, Refused
from cloud.outgoing import Outgoing
from cloud.web_bodies import Bodies, Body
from cloud.web_files import Files

MAX_BODY_BYTES = 1024 * 1024
MAX_ARRIVING = 500  # connections with an unfinished request
MAX_ARRIVING_BYTES = 32 * 1024 * 1024  # of them together
PIECE = 64 * 1024
SPARE_CONNECTIONS = 32  # kept free by closing idle ones
IO_SECONDS = 10  # a thread waits for one piece of an answer to be taken
LINGER_SECONDS = 2.0
MAX_LINGER_BYTES = 1024 * 1024
TIME = struct.pack("ll", IO_SECONDS, 0)

# What the parser refuses, by status; all else that it refuses is 400.
STATUS: dict[type[Exception], int] = {
    errors.LimitRequestLine: 414,
    errors.ExpectationFailed: 417,
    errors.LimitRequestHeaders: 431,
    errors.UnsupportedTransferCoding: 501,
}


@dataclass
class Farewell:
    """A connection that has its answer, and may end when its client has read it."""

    until: float
    read: int = 0


class Connection(TConn):  # type: ignore[misc]
    """One client's connection. Its end is the loop's matter, too."""

    def __init__(self, worker: "Worker", *arguments: Any) -> None:
        super().__init__(*arguments)
        self.worker = worker
        self.arrival: Arrival | None = None
        self.is_cut = False  # the rest of its request will not be read
        self.is_streamed = False  # its request has a body for a file
        self.expects_continue = False  # its client waits before it sends that

    def close(self, graceful: bool = False) -> None:
        if graceful:
            self.worker.linger(self.sock)
        else:
            util.close(self.sock)


class Worker(ThreadWorker):  # type: ignore[misc]
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.arriving: dict[Connection, None] = {}  # in the order of their beginning
        self.leaving: dict[socket.socket, Farewell] = {}
        self.bodies = Bodies(self)
        self.files = Files(self)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi: Any = self.files.wrap(self.bodies.wrap(self.wsgi))

    def accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            client.setsockopt(socket.SOL_SOCKET, direction, TIME)
        self._keep_some_free()
        self.enqueue_req(Connection(self, self.cfg, client, address, listener.getsockname()))

    def _keep_some_free(self) -> None:
        if len(self.arriving) >= MAX_ARRIVING:
            self.drop(next(iter(self.arriving)))
        if self.nr_conns < self.worker_connections - SPARE_CONNECTIONS:
            return
        if self.keepalived_conns:
            idle = self.keepalived_conns.popleft()
            self.unregister(idle.sock)
            self.nr_conns -= 1
            idle.close()
        elif self.arriving:
            self.drop(next(iter(self.arriving)))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """gunicorn's, except that a connection that one event ended gets no event that was found with it."""
        for key, _ in self.poller.select(timeout):
            if self._is_registered(key):
                key.data(key.fileobj)

    def _is_registered(self, key: selectors.SelectorKey) -> bool:
        try:
            return self.poller.get_key(key.fileobj) is key
        except (KeyError, ValueError):  # ValueError: it is closed
            return False

    def enqueue_req(self, conn: Connection) -> None:
        """Collect the next request of a connection. gunicorn calls this wherever there may be one."""
        conn.arrival = Arrival(MAX_BODY_BYTES)
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_piece, conn))
        self.arriving[conn] = None
        if conn.parser is not None:
            self._take(conn, conn.parser.unreader.take_buffered())

    def on_piece(self, conn: Connection, client: socket.socket) -> None:
        try:
            piece = client.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:  # nobody reads an answer any more
            self.drop(conn)
            return
        assert conn.arrival is not None
        if piece:
            self._take(conn, piece)
        elif conn.arrival.data:  # it ended in the middle: the parser says so, and waits for nothing
            self._submit(conn)
        else:
            self.drop(conn)

    def _take(self, conn: Connection, piece: bytes) -> None:
        arrival = conn.arrival
        assert arrival is not None
        try:
            arrival.feed(piece)
        except Refused as refused:
            self.drop(conn, refused)
            return
        if arrival.complete:
            self._submit(conn)
            return
        if arrival.wants_continue:
            arrival.wants_continue = False
            with contextlib.suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(piece) > 1024 and sum(map(held, self.arriving)) > MAX_ARRIVING_BYTES:
            self.drop(max(self.arriving, key=held), Refused(503, "Service Unavailable"))

    def _submit(self, conn: Connection) -> None:
        """All of the request is here: a thread may have it."""
        arrival = self._forget(conn)
        conn.init()
        conn.parser.unreader.unread(bytes(arrival.data))
        conn.data_ready, conn.is_cut, conn.is_streamed = True, arrival.is_cut, arrival.is_streamed
        super().enqueue_req(conn)

    def _forget(self, conn: Connection) -> Arrival:
        arrival, conn.arrival = conn.arrival, None
        assert arrival is not None
        self.arriving.pop(conn)
        self.unregister(conn.sock)
        return arrival

    def unregister(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(client)

    def drop(self, conn: Connection, refused: Refused | None = None) -> None:
        """Give up a request that has not arrived, with an answer if something is to be said."""
        self._forget(conn)
        self.part_from(conn, refused)

    def part_from(self, conn: Connection, refused: Refused | None = None) -> None:
        """End a connection whose request gets no thread (any more)."""
        self.nr_conns -= 1
        if refused:
            say(conn.sock, refused.status, refused.reason)
        conn.close(graceful=refused is not None)

    def murder_pending(self) -> None:
        """Ends what has had its time. gunicorn calls this every second."""
        now = time.monotonic()
        for conn in [conn for conn in self.arriving if conn.arrival and conn.arrival.deadline <= now]:
            assert conn.arrival is not None
            self.drop(conn, Refused(408, "Request Timeout") if conn.arrival.data else None)
        if not self.alive:
            for conn in [conn for conn in self.arriving if conn.arrival and not conn.arrival.data]:
                self.drop(conn)
        self.bodies.end_idle()
        self.files.end_idle()
        for client in [client for client, farewell in self.leaving.items() if farewell.until <= now]:
            self._leave(client)

    def linger(self, client: socket.socket) -> None:
        """Close as RFC 9112, section 9.6 has it: say that we are done, and read on for a moment, without waiting."""
        try:
            client.shutdown(socket.SHUT_WR)
            client.setblocking(False)
            self.poller.register(client, selectors.EVENT_READ, self._on_farewell)
        except (OSError, KeyError, ValueError):
            util.close(client)
            return
        self.leaving[client] = Farewell(time.monotonic() + LINGER_SECONDS)

    def _on_farewell(self, client: socket.socket) -> None:
        farewell = self.leaving[client]
        try:
            piece = client.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        farewell.read += len(piece)
        if not piece or farewell.read > MAX_LINGER_BYTES:
            self._leave(client)

    def _leave(self, client: socket.socket) -> None:
        self.leaving.pop(client, None)
        self.unregister(client)
        util.close(client)

    def handle(self, conn: Connection) -> Any:
        try:
            return super().handle(conn)
        except BlockingIOError:  # the client did not take its answer in time
            return False

    def resume(self, conn: Connection, req: Any) -> None:
        """All of a request's body is in its file: a thread may give the answer."""
        served = self.tpool.submit(self._handle_again, conn, req)
        served.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _handle_again(self, conn: Connection, req: Any) -> Any:
        conn.sock.setblocking(True)
        try:
            return self.handle_request(req, conn)
        except (StopIteration, OSError):
            return False
        except Exception as error:
            self.handle_error(req, conn.sock, conn.client, error)
            return False

    def _keepalive_after(self, conn: Connection, keepalive: Any) -> Any:
        return keepalive if isinstance(keepalive, Body | Outgoing) else super()._keepalive_after(conn, keepalive)

    def finish_request(self, conn: Connection, fs: Any) -> None:
        result = None if fs.cancelled() or fs.exception() else fs.result()
        if isinstance(result, Body):
            self.bodies.begin(conn, result)
            return
        if isinstance(result, Outgoing):
            self.files.begin(conn, result)
            return
        self.bodies.forget(conn)
        super().finish_request(conn, fs)

    def handle_request(self, req: Any, conn: Connection) -> Any:
        if conn.is_cut:
            req.force_close()
        try:
            if conn.is_streamed:
                return self.bodies.serve(req, conn, lambda: ThreadWorker.handle_request(self, req, conn))
            return self.files.serve(req, lambda: ThreadWorker.handle_request(self, req, conn))
        except BlockingIOError:
            self.log.debug("a client did not take its answer")
            raise StopIteration from None

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """What never reaches Django is told in its form all the same."""
        if not isinstance(exc, errors.ParseException) or isinstance(exc, errors.InvalidResponseHeader):
            super().handle_error(req, client, addr, exc)
            return
        status = STATUS.get(type(exc), 400)
        self.log.info("Invalid request from ip=%s: %s", (addr or ("",))[0], exc)
        say(client, status, HTTPStatus(status).phrase)


def held(conn: Connection) -> int:
    """How many bytes of an unfinished request a connection holds."""
    return len(conn.arrival.data) if conn.arrival else 0


def say(client: socket.socket, status: int, reason: str) -> None:
    """An answer of our own, as far as the client takes it at once."""
    code = "too_large" if status in (413, 414, 431) else "unavailable" if status >= 500 else "invalid"
    title = HTTPStatus(status).phrase
    problem = {"type": f"urn:pileus:problem:{code}", "title": title, "status": status, "code": code, "detail": reason}
    rest = {"errors": [], "retryable": status in (408, 503), "fix_by": "you", "request_id": ""}
    body = json.dumps(problem | rest).encode()
    head = (
        f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        client.setblocking(False)
        client.send(head.encode() + body)
