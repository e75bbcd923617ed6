"""Channels: many byte streams on one websocket, by which the control plane reaches what is on a host.

Commands are JSON text: {"open": n, …wish}, answered by {"opened": n, …facts} or {"refused": n, "code",
"because"}; {"close": n, "because"}; {"credit": n, "bytes": how many more may come}. Data is binary: the
channel's number in four bytes, big-endian, then bytes. A channel has at most WINDOW bytes in flight: a slow reader
holds up no other channel and fills no memory, and a fast writer takes turns with the others. Both ends use this
module; only the control plane opens.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

log = structlog.get_logger()

WINDOW = 64 << 10
PIECE = 16 << 10
MAX_MESSAGE = PIECE + 4
MAX_CHANNELS = 256
MAX_REASON = 300
VERBS = ("opened", "refused", "close", "credit")  # "open" comes from the other side


class Closed(Exception):
    """The channel's other end is gone."""


class NotOpened(Exception):
    """The other end refused to open a channel: a code for programs, and words."""

    def __init__(self, code: str, because: str) -> None:
        super().__init__(because)
        self.code, self.because = code, because


class Channel:
    """One byte stream. `because` says why it was closed, once `read` has returned nothing."""

    def __init__(self, line: "Line", number: int) -> None:
        self.number = number
        self.because = ""
        self.facts: dict[str, Any] = {}  # what the other end said when it opened
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line = line
        self._arrived = bytearray()
        self._taken = 0  # bytes that were read, and not yet allowed to come again
        self._credit = WINDOW
        self._ended = False
        self._changed = asyncio.Event()  # something arrived, or may be sent, or it has ended

    @property
    def is_open(self) -> bool:
        return not self._ended

    async def opened(self, **facts: Any) -> None:
        """Tell the requester that it is open."""
        await self._line.say({"opened": self.number, **facts})

    async def read(self) -> bytes:
        """What arrived next; nothing when the other end has closed. Meant for one reader."""
        while not self._arrived:
            if self._ended:
                return b""
            await self._until_changed()
        content = bytes(self._arrived[:PIECE])
        del self._arrived[:PIECE]
        self._taken += len(content)
        if self._taken >= WINDOW // 4 and not self._ended:
            taken, self._taken = self._taken, 0
            with contextlib.suppress(Closed):
                await self._line.say({"credit": self.number, "bytes": taken})
        return content

    async def write(self, content: bytes) -> None:
        """Send it all, as fast as the other end reads. Raises Closed."""
        while content:
            while not self._credit and not self._ended:
                await self._until_changed()
            if self._ended:
                raise Closed(self.because)
            piece = content[: min(self._credit, PIECE)]
            content = content[len(piece) :]
            self._credit -= len(piece)
            await self._line.send(self.number, piece)

    async def close(self, because: str = "") -> None:
        """End it from this side; a second time changes nothing."""
        if not self._ended:
            self.end(because)
            self._line.forget(self)
            with contextlib.suppress(Closed):
                await self._line.say({"close": self.number, "because": because})

    # Called by the line

    def take(self, content: bytes) -> bool:
        """Whether it was allowed to come."""
        if len(self._arrived) + len(content) + self._taken > WINDOW:
            return False
        self._arrived += content
        self._changed.set()
        return True

    def allow(self, more: int) -> None:
        self._credit = min(self._credit + more, WINDOW)
        self._changed.set()

    def end(self, because: str) -> None:
        if not self._ended:
            self._ended, self.because = True, because
            self._changed.set()
            if not self.answer.done():
                self.answer.set_exception(NotOpened("gone", because))
                self.answer.exception()  # retrieved, because perhaps no caller waits any more

    async def _until_changed(self) -> None:
        self._changed.clear()
        await self._changed.wait()


Serve = Callable[[Channel, dict[str, Any]], Awaitable[None]]


class Line:
    """One end of a websocket with channels.

    `serve` is called for each that the other end opens; it may raise NotOpened, and the channel closes when it returns.
    """

    def __init__(self, connection: Connection, serve: Serve | None = None) -> None:
        self._connection = connection
        self._serve = serve
        self._channels: dict[int, Channel] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Obey what the other end says, until the connection ends; then all channels have ended."""
        try:
            async for message in self._connection:
                if isinstance(message, bytes):
                    await self._take(message)
                else:
                    self._obey(json.loads(message))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            log.warning("a line was not understood", problem=repr(fault))
        finally:
            await self._connection.close()
            for channel in list(self._channels.values()):
                channel.end("the connection to the host was lost")
            self._channels.clear()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self, code: int = 1000, because: str = "") -> None:
        await self._connection.close(code, because)

    async def open(self, wish: dict[str, Any]) -> Channel:
        """A channel for what is wished. Raises NotOpened."""
        if len(self._channels) >= MAX_CHANNELS:
            raise NotOpened("busy", f"the host has {MAX_CHANNELS} channels open")
        channel = Channel(self, next(self._numbers))
        self._channels[channel.number] = channel
        try:
            await self.say({**wish, "open": channel.number})
            await channel.answer
        except Closed as gone:
            self.forget(channel)
            raise NotOpened("gone", str(gone)) from gone
        except NotOpened:
            self.forget(channel)
            raise
        except asyncio.CancelledError:
            await channel.close("nobody waits for it any more")
            raise
        return channel

    async def say(self, about: dict[str, Any]) -> None:
        await self._put(json.dumps(about))

    async def send(self, number: int, content: bytes) -> None:
        await self._put(number.to_bytes(4, "big") + content)

    async def _put(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as gone:
            raise Closed("the connection to the host was lost") from gone

    def forget(self, channel: Channel) -> None:
        self._channels.pop(channel.number, None)

    async def _take(self, message: bytes) -> None:
        channel = self._channels.get(int.from_bytes(message[:4], "big"))
        if channel and not channel.take(message[4:]):
            await channel.close("it sent more than it was allowed to")

    def _obey(self, about: dict[str, Any]) -> None:
        if "open" in about:
            self._begin(int(about["open"]), about)
            return
        verb = next((verb for verb in VERBS if verb in about), "")
        channel = self._channels.get(int(about[verb]))
        if channel is None:
            return  # it was closed from this side meanwhile
        because = str(about.get("because", ""))[:MAX_REASON]
        if verb == "credit":
            channel.allow(int(about["bytes"]))
        elif verb == "close":
            channel.end(because)
            self.forget(channel)
        elif not channel.answer.done():
            channel.facts = about
            if verb == "opened":
                channel.answer.set_result(None)
            else:
                channel.answer.set_exception(NotOpened(str(about.get("code", ""))[:40], because))

    def _begin(self, number: int, wish: dict[str, Any]) -> None:
        if self._serve is None or number in self._channels or len(self._channels) >= MAX_CHANNELS:
            raise ValueError(f"channel {number} may not be opened")
        channel = self._channels[number] = Channel(self, number)
        task = asyncio.ensure_future(self._attend(channel, wish))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, channel: Channel, wish: dict[str, Any]) -> None:
        because = ""
        assert self._serve is not None
        try:
            await self._serve(channel, wish)
        except NotOpened as refusal:
            with contextlib.suppress(Closed):
                await self.say({"refused": channel.number, "code": refusal.code, "because": refusal.because})
        except Closed:
            return
        except Exception:
            log.exception("a channel failed", wish=wish)
            because = "the host failed"
        finally:
            await channel.close(because)
