"""The lines to the hosts' node services, and what is asked of a host over them."""

import asyncio
import contextlib
import json
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from django.db.utils import DatabaseError

from agent.channels import MAX_MESSAGE, Channel, Line, NotOpened
from cloud.streams import rows
from cloud.streams.handover import Message
from cloud.streams.websockets import CloseCode, open_websocket

log = logging.getLogger(__name__)

SECONDS_TO_ANSWER = 2.0
SECONDS_TO_TELL = 20.0
# At once, for each host: a thread of web may be behind each, and one host's silence costs the others nothing.
MAX_WAITING = 16
MAX_WAITING_FOR_ABSENT = 4
SECONDS_BETWEEN_CHECKS = 30.0


class Unreachable(Exception):
    """The host is not connected, or does not answer."""


class Hosts:
    """All hosts that are connected, each by its newest line."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._arrived = asyncio.Condition()
        self._waiting: Counter[str] = Counter()

    async def accept(self, message: Message, client: socket.socket) -> None:
        """Keep a host's line for as long as it lasts."""
        assert message.host is not None
        connection = await open_websocket(client, message.head.encode(), max_size=MAX_MESSAGE)
        line, before = Line(connection), self._lines.get(message.host)
        self._lines[message.host] = line
        async with self._arrived:
            self._arrived.notify_all()
        if before:
            await before.close(CloseCode.GOING_AWAY, "a newer connection of this host has come")
        try:
            await line.run()
        finally:
            if self._lines.get(message.host) is line:
                del self._lines[message.host]

    async def end_removed(self, ask: Callable[..., Awaitable[set[str]]]) -> None:
        """Hang up on those who are no hosts of this cloud any more, for as long as the process lives."""
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_CHECKS)
            if connected := set(self._lines):
                with contextlib.suppress(DatabaseError):
                    for removed in connected - await ask(rows.hosts_among, connected):
                        await self._lines[removed].close(CloseCode.POLICY_VIOLATION, "this host was removed")

    async def stop(self) -> None:
        lines = list(self._lines.values())
        await asyncio.gather(*(line.close(CloseCode.GOING_AWAY, "streams restarts") for line in lines))

    async def open(self, host: str, wish: dict[str, Any]) -> Channel:
        """A channel to what is on a host. Raises Unreachable after two seconds, or NotOpened when the host refuses."""
        if self._waiting[host] >= (MAX_WAITING if host in self._lines else MAX_WAITING_FOR_ABSENT):
            raise Unreachable
        self._waiting[host] += 1
        try:
            async with asyncio.timeout(SECONDS_TO_ANSWER):
                async with self._arrived:
                    await self._arrived.wait_for(lambda: host in self._lines)
                return await self._lines[host].open(wish)
        except TimeoutError as error:
            raise Unreachable from error
        finally:
            self._waiting[host] -= 1
            if not self._waiting[host]:
                del self._waiting[host]

    async def answer(self, message: Message, asker: socket.socket) -> None:
        """Tell web, on a socket that it gave us: one line of JSON that says how the host answered, and what it sent."""
        assert message.host is not None
        reader, writer = await asyncio.open_unix_connection(sock=asker)
        try:
            async with asyncio.timeout(SECONDS_TO_TELL):
                try:
                    channel = await self.open(message.host, message.wish)
                except Unreachable:
                    writer.write(_line({"code": "host_unreachable"}))
                except NotOpened as refusal:
                    writer.write(_line({"code": refusal.code, "because": refusal.because}))
                else:
                    try:
                        writer.write(_line(channel.facts))
                        while content := await channel.read():
                            writer.write(content)
                            await writer.drain()
                    finally:
                        await channel.close()
                await writer.drain()
        except (TimeoutError, OSError):
            log.info("streams.nobody_waits_for_the_answer")
        finally:
            writer.close()


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode() + b"\n"
