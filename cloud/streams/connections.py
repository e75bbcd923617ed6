"""One client's connection, once it is ours: what is written on it, and when it ends."""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from cloud.events.reading import Cursor
from cloud.problems import Problem
from cloud.streams.handover import Message

MAX_UNSENT = 256 * 1024  # bytes that a slow reader may be behind before the connection ends; it resumes where it was


class Connection(asyncio.Protocol):
    """Writes to one client without waiting for it."""

    def __init__(self, message: Message, closed: Callable[["Connection"], None]):
        self.message = message
        assert message.caller is not None
        self.caller = message.caller
        self.cursor: Cursor | None = Cursor.parse(message.after) if message.after else None
        self.deadline: asyncio.TimerHandle | None = None
        self._closed = closed
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls, client: socket.socket, message: Message, closed: Callable[["Connection"], None]
    ) -> "Connection":
        """Take the client's socket over."""
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        _, connection = await loop.connect_accepted_socket(lambda: cls(message, closed), client)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=MAX_UNSENT)

    def data_received(self, data: bytes) -> None:
        """A client has nothing more to say: the answer closes the connection."""

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.deadline:
            self.deadline.cancel()
        self._closed(self)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send, or end the connection of a client who does not read."""
        if not self.is_open:
            return
        assert self._transport is not None
        if self._transport.get_write_buffer_size() + len(data) > MAX_UNSENT:
            self._transport.abort()
        else:
            self._transport.write(data)

    def close(self) -> None:
        """End it once everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def begin_events(self) -> None:
        """The head of an event stream (HTML Living Standard, server-sent events)."""
        headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        self.write(self._head(HTTPStatus.OK, headers) + b"retry: 2000\n\n")

    def send_event(self, cursor: Cursor, body: Mapping[str, Any]) -> None:
        self.write(f"id: {cursor}\ndata: {json.dumps(body)}\n\n".encode())
        self.cursor = cursor

    def send_hint(self, body: Mapping[str, Any]) -> None:
        """Without an id: nobody resumes behind a hint."""
        self.write(f"event: hint\ndata: {json.dumps(body)}\n\n".encode())

    def keep_alive(self) -> None:
        """An event, as a browser tells its page nothing of comments: who hears none for long is cut off."""
        self.write(b"event: alive\ndata: {}\n\n")

    def answer(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """A whole answer, after which the connection ends."""
        content = json.dumps(body).encode()
        every = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
        self.write(self._head(HTTPStatus(status), every) + content)
        self.close()

    def refuse(self, problem: Problem) -> None:
        headers = {"Content-Type": "application/problem+json", **problem.headers}
        self.answer(problem.status, problem.body(self.message.request_id), headers)

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> bytes:
        common = {
            "Cache-Control": "no-store",
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            "X-Request-ID": self.message.request_id,
        }
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name}: {value}" for name, value in {**common, **headers}.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
