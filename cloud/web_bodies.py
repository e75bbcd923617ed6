"""Large bodies in web's worker: they wait in its poller, and a few threads of their own write what has come.

A request whose body is for a file (see cloud/intake.py) is served twice: by its head alone, when the view says where
the body goes or refuses, and again when all of it is there. In between it holds no thread that others need.
"""

import contextlib
import io
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from cloud.arrivals import Refused
from cloud.intake import RECEIVED, RECEIVER, Receiver
from cloud.problems import Problem, RateLimited, Unavailable

if TYPE_CHECKING:
    from cloud.web_worker import Connection, Worker

log = structlog.get_logger(__name__)

MAX_RECEIVING = 200  # bodies at the same time, in each process
MAX_RECEIVING_OF_ONE = 16  # of one owner
IDLE_SECONDS = 60.0  # without a byte
WRITERS = 2  # threads
PIECE = 256 * 1024
TURN = 8 * 1024 * 1024  # bytes of one body, before others have their turn


class Later(Exception):
    """The view has said where the body goes: there is no answer yet."""


@dataclass
class Body:
    """A body under way: its request, and where it goes."""

    req: Any
    receiver: Receiver
    heard: float = field(default_factory=time.monotonic)


class Bodies:
    """All bodies under way in this process. Everything but `pump` and `serve` runs in the worker's loop."""

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.receiving: dict[Connection, Body] = {}
        self.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="bodies")
        self._serving = threading.local()  # `streamed`, `receiver`: of the request that this thread serves

    def wrap(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """The application, which may ask for a body, and finds it when it is asked again."""

        def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if not getattr(self._serving, "streamed", False):
                return application(environ, start_response)
            environ["wsgi.input"] = io.BytesIO()
            if self._serving.receiver is not None:
                environ[RECEIVED] = self._serving.receiver
                return application(environ, start_response)
            environ[RECEIVER] = self._accept
            answer = application(environ, start_response)
            if self._serving.receiver is None:
                return answer
            if hasattr(answer, "close"):
                answer.close()
            raise Later

        return wrapped

    def _accept(self, receiver: Receiver) -> None:
        """Called by the view. Raises RateLimited, Unavailable."""
        under_way = list(self.receiving.values())
        owner = receiver.intake.owner
        try:
            if sum(body.receiver.intake.owner == owner for body in under_way) >= MAX_RECEIVING_OF_ONE:
                raise RateLimited(
                    f"You send {MAX_RECEIVING_OF_ONE} files already. Wait for one of them.",
                    headers={"Retry-After": "10"},
                )
            if len(under_way) >= MAX_RECEIVING:
                raise Unavailable("Too many files are being sent at the moment.", headers={"Retry-After": "10"})
        except Problem:
            receiver.close()
            raise
        self._serving.receiver = receiver

    def serve(self, req: Any, conn: "Connection", handle: Callable[[], Any]) -> Any:
        """Serve a request with such a body, in a thread: by its head, or, once it is there, to the end."""
        body = self.receiving.get(conn)
        self._serving.streamed, self._serving.receiver = True, body.receiver if body else None
        expects, req._expected_100_continue = req._expected_100_continue, False
        req.force_close()  # what is left of the body would be taken for the next request
        try:
            return handle()
        except Later:
            conn.expects_continue = expects
            return Body(req, self._serving.receiver)
        finally:
            if body:
                body.receiver.close()
            self._serving.streamed, self._serving.receiver = False, None

    def begin(self, conn: "Connection", body: Body) -> None:
        """The view wants the body: collect it, with what of it has come with the head."""
        self.receiving[conn] = body
        conn.sock.setblocking(False)
        if conn.expects_continue:
            with contextlib.suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._submit(conn, conn.parser.unreader.take_buffered())

    def _submit(self, conn: "Connection", first: bytes = b"") -> None:
        turn = self.writers.submit(self.pump, self.receiving[conn], conn.sock, first)
        turn.add_done_callback(lambda done: self.worker.method_queue.defer(self._after_turn, conn, done))

    @staticmethod
    def pump(body: Body, client: socket.socket, first: bytes) -> bool:
        """Write what has come, as far as it does without waiting. False: the client has gone."""
        receiver, taken = body.receiver, 0
        if first:
            receiver.feed(first)
        while not receiver.is_complete and taken < TURN:
            try:
                piece = client.recv(PIECE)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not piece:
                return False
            taken += len(piece)
            receiver.feed(piece)
        return True

    def _after_turn(self, conn: "Connection", turn: "Future[bool]") -> None:
        body = self.receiving[conn]
        body.heard = time.monotonic()
        try:
            is_there = turn.result()
        except Problem as refused:
            self.drop(conn, Refused(refused.status, refused.detail))
        except Exception:
            log.exception("a body could not be written")
            self.drop(conn, Refused(500, "Internal Server Error"))
        else:
            if body.receiver.is_complete:
                self.worker.resume(conn, body.req)
            elif not is_there:
                self.drop(conn)
            else:
                self.worker.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_piece, conn))

    def _on_piece(self, conn: "Connection", client: socket.socket) -> None:
        self.worker.unregister(client)
        self._submit(conn)

    def forget(self, conn: "Connection") -> None:
        """Its answer has been given."""
        self.receiving.pop(conn, None)

    def drop(self, conn: "Connection", refused: Refused | None = None) -> None:
        """The rest of the body will not be read."""
        body = self.receiving.pop(conn)
        self.worker.unregister(conn.sock)
        body.receiver.abort()
        self.worker.part_from(conn, refused)

    def end_idle(self) -> None:
        """End those that say nothing, and when the worker ends those that can go on later."""
        silent = time.monotonic() - IDLE_SECONDS
        registered = {key.fileobj for key in self.worker.poller.get_map().values()}
        for conn, body in list(self.receiving.items()):
            waits = conn.sock in registered  # otherwise a thread has it
            if waits and body.heard < silent:
                self.drop(conn, Refused(408, "Request Timeout"))
            elif waits and not self.worker.alive and body.receiver.intake.keeps_part:
                self.drop(conn)
