"""Large files on their way out of web's worker: they wait in its poller, and a few threads of their own send them.

A view answers with the head and leaves the file to us (see cloud/outgoing.py). The kernel copies it to the connection
(sendfile), as much as goes without waiting for the client. What comes from elsewhere is read and sent piece by piece.
"""

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from cloud.outgoing import SENDER, Outgoing
from cloud.problems import RateLimited, Unavailable

if TYPE_CHECKING:
    from cloud.web_worker import Connection, Worker

log = structlog.get_logger(__name__)

MAX_SENDING = 300  # files at the same time, in each process
MAX_SENDING_OF_ONE = 16  # of one owner
IDLE_SECONDS = 60.0  # without a byte that the client takes
SENDERS = 2  # threads
FETCHERS = 8  # threads for files that come from elsewhere, which may keep one waiting
PIECE = 64 * 1024  # of such a file
TURN = 8 * 1024 * 1024  # bytes of one file, before others have their turn


class Files:
    """All files on their way out of this process. Everything but `pump` and `serve` runs in the worker's loop."""

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker
        self.sending: dict[Connection, Outgoing] = {}
        self.moved: dict[Connection, float] = {}  # when its client took something last
        self.senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="files")
        self.fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetches")
        self._serving = threading.local()  # `req`, `outgoing`: of the request that this thread serves

    def wrap(self, application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """The application, which may leave a file to us."""

        def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if getattr(self._serving, "req", None) is not None:
                environ[SENDER] = self._accept
            return application(environ, start_response)

        return wrapped

    def _accept(self, outgoing: Outgoing) -> None:
        """Called by the view. Raises RateLimited, Unavailable."""
        under_way = list(self.sending.values())
        if sum(other.owner == outgoing.owner for other in under_way) >= MAX_SENDING_OF_ONE:
            words = f"You fetch {MAX_SENDING_OF_ONE} files already. Wait for one of them."
            raise RateLimited(words, headers={"Retry-After": "10"})
        if len(under_way) >= MAX_SENDING:
            raise Unavailable("Too many files are being fetched at the moment.", headers={"Retry-After": "10"})
        self._serving.outgoing = outgoing
        self._serving.req.force_close()  # said with the head: afterwards nobody of gunicorn's has the connection

    def serve(self, req: Any, handle: Callable[[], Any]) -> Any:
        """Serve a request in a thread. What is left to be sent then is an Outgoing."""
        self._serving.req, self._serving.outgoing = req, None
        try:
            result = handle()
        except BaseException:
            if self._serving.outgoing:
                self._serving.outgoing.close()
            raise
        else:
            return self._serving.outgoing or result
        finally:
            self._serving.req = self._serving.outgoing = None

    def begin(self, conn: "Connection", outgoing: Outgoing) -> None:
        """The head has been sent: send the file."""
        self.sending[conn], self.moved[conn] = outgoing, time.monotonic()
        conn.sock.setblocking(False)
        self._submit(conn)

    def _submit(self, conn: "Connection") -> None:
        outgoing = self.sending[conn]
        if outgoing.is_here:
            turn = self.senders.submit(self.pump, outgoing, conn.sock)
        else:
            turn = self.fetchers.submit(self.pass_on, outgoing, conn.sock)
        turn.add_done_callback(lambda done: self.worker.method_queue.defer(self._after_turn, conn, done))

    @staticmethod
    def pump(outgoing: Outgoing, client: socket.socket) -> bool:
        """Send as much as goes without waiting. False: the client has gone, or the file is not whole."""
        end = max(0, outgoing.left - TURN)
        while outgoing.left > end:
            try:
                sent = os.sendfile(client.fileno(), outgoing.file.fileno(), outgoing.offset, outgoing.left - end)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not sent:
                return False
            outgoing.offset += sent
            outgoing.left -= sent
        return True

    @staticmethod
    def pass_on(outgoing: Outgoing, client: socket.socket) -> bool:
        """`pump` for a file that comes from elsewhere. Raises what reading it raises."""
        end = max(0, outgoing.left - TURN)
        while outgoing.left > end:
            outgoing.held = outgoing.held or outgoing.file.read(min(PIECE, outgoing.left))
            if not outgoing.held:
                return False
            try:
                sent = client.send(outgoing.held)
            except BlockingIOError:
                return True
            except OSError:
                return False
            outgoing.held = outgoing.held[sent:]
            outgoing.left -= sent
        return True

    def _after_turn(self, conn: "Connection", turn: "Future[bool]") -> None:
        self.moved[conn] = time.monotonic()
        if turn.exception():
            log.error("a file could not be sent", exc_info=turn.exception())
        if turn.exception() or not turn.result() or not self.sending[conn].left:
            self._end(conn)
        else:
            self.worker.poller.register(conn.sock, selectors.EVENT_WRITE, partial(self._on_room, conn))

    def _on_room(self, conn: "Connection", client: socket.socket) -> None:
        self.worker.unregister(client)
        self._submit(conn)

    def _end(self, conn: "Connection") -> None:
        """Close the connection. A client that has not got all of it sees that by the length."""
        outgoing = self.sending.pop(conn)
        del self.moved[conn]
        outgoing.close()
        self.worker.unregister(conn.sock)
        self.worker.nr_conns -= 1
        conn.close(graceful=not outgoing.left)

    def end_idle(self) -> None:
        """End those whose clients take nothing."""
        silent = time.monotonic() - IDLE_SECONDS
        registered = {key.fileobj for key in self.worker.poller.get_map().values()}
        for conn in [conn for conn, when in self.moved.items() if when < silent]:
            if conn.sock in registered:  # otherwise a thread has it
                self._end(conn)
