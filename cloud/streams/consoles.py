"""Consoles in browsers: a websocket of a person on one side, a channel to the machine's host on the other."""

import asyncio
import json
import logging
import socket
from collections import Counter

from websockets.exceptions import ConnectionClosed

from agent.channels import PIECE, Channel, Closed, NotOpened
from cloud.streams import rows
from cloud.streams.handover import Caller, Message
from cloud.streams.hosts import Hosts, Unreachable
from cloud.streams.switchboard import Switchboard
from cloud.streams.websockets import CloseCode, Connection, open_websocket, shortened

log = logging.getLogger(__name__)

MAX_TYPED = 64 << 10  # bytes in one message of a browser
MAX_OF_ONE_CALLER = 32


class Console:
    """One open console. `close` ends it from outside: its owner may not look any more."""

    def __init__(self, caller: Caller, connection: Connection) -> None:
        self.caller = caller
        self.connection = connection
        self._closing: asyncio.Task[None] | None = None

    def close(self) -> None:
        because = "You may not look at this console any more, or its machine has gone."
        self._closing = asyncio.ensure_future(self.end(CloseCode.POLICY_VIOLATION, because))

    async def end(self, code: int, because: str) -> None:
        await self.connection.close(code, shortened(because))


class Consoles:
    """All consoles that are open."""

    def __init__(self, switchboard: Switchboard, hosts: Hosts) -> None:
        self._switchboard = switchboard
        self._hosts = hosts
        self._of_user: Counter[str] = Counter()

    async def accept(self, message: Message, client: socket.socket) -> None:
        """Serve one console until either side has had enough of it."""
        caller = message.caller
        assert caller is not None
        assert message.host is not None
        connection = await open_websocket(client, message.head.encode(), max_size=MAX_TYPED)
        console = Console(caller, connection)
        self._of_user[caller.user] += 1
        self._switchboard.guests.add(console)
        try:
            if self._of_user[caller.user] > MAX_OF_ONE_CALLER:
                await console.end(CloseCode.TRY_AGAIN_LATER, f"You have {MAX_OF_ONE_CALLER} consoles open. Close some.")
            elif await self._switchboard.ask(rows.no_longer_allowed, [caller]):
                await console.end(CloseCode.POLICY_VIOLATION, "You may not open this console any more.")
            else:
                await self._connect(console, message)
        finally:
            self._switchboard.guests.discard(console)
            self._of_user[caller.user] -= 1
            if not self._of_user[caller.user]:
                del self._of_user[caller.user]
            await connection.close()

    async def _connect(self, console: Console, message: Message) -> None:
        assert message.host is not None
        try:
            channel = await self._hosts.open(message.host, message.wish)
        except Unreachable:
            await console.end(CloseCode.TRY_AGAIN_LATER, "The host of this machine does not answer.")
            return
        except NotOpened as refusal:
            await console.end(CloseCode.TRY_AGAIN_LATER, refusal.because)
            return
        try:
            if "before" in channel.facts:  # so that a terminal answers nothing that was asked long ago
                await console.connection.send(json.dumps({"before": int(channel.facts["before"])}))
            await _carry(channel, console.connection)
            await console.end(CloseCode.NORMAL_CLOSURE, channel.because or "The console was closed.")
        except (ConnectionClosed, Closed, ValueError, TypeError):
            log.debug("streams.console_ended", exc_info=True)
        finally:
            await channel.close()


async def _carry(channel: Channel, connection: Connection) -> None:
    """Both directions, each as fast as its receiver reads, until one of them ends."""

    async def show() -> None:
        while content := await channel.read():
            await connection.send(content)

    async def listen() -> None:
        async for typed in connection:
            content = typed if isinstance(typed, bytes) else typed.encode()
            for start in range(0, len(content), PIECE):
                await channel.write(content[start : start + PIECE])

    tasks = [asyncio.ensure_future(show()), asyncio.ensure_future(listen())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
