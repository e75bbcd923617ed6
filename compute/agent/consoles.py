"""Consoles of this host's machines: the serial port, the screen, the log. Nothing here changes a machine or the host.

What a guest says on its serial port is read from its log, which has all of it with exact offsets: whoever comes sees
what was before, whoever is slow reads at his own pace, and nobody's slowness is kept in memory. The emulator's socket
is for typing, and tells that there is something new. It is always read: an emulator that cannot write to a socket that
somebody has connected holds its guest up.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from agent import folders, ledger
from agent.channels import Channel, Closed, NotOpened
from agent.node_service import Server
from agent.paths import Paths
from compute.agent import sockets
from compute.agent.homes import Home, Homes
from compute.agent.records import key

SCROLL_BACK = 32 << 10
MIN_KEPT_BYTES = 256 << 10  # console_log.py keeps no less: older bytes may be holes
READ_AT_ONCE = 32 << 10
MAX_LOG_BYTES = 8 << 20  # more is never kept, unless an emulator pretends
SETTLE_SECONDS = 0.01  # an emulator writes its log just after the socket; and a burst is sent in one piece
LOOK_SECONDS = 0.25  # when another process holds the emulator's socket, no event wakes us
MAX_SECONDS_TO_CONNECT = 2.0
GONE = "the machine has ended"
WHAT = ("serial", "vnc", "log")
T = TypeVar("T")


class SerialPort:
    """One machine's serial port, open while a viewer is connected."""

    def __init__(self, home: Home, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.log = home.console_log
        self.viewers = 0
        self.has_ended = False
        self._reader, self._writer = reader, writer
        self._said = asyncio.Event()
        self._typing = asyncio.Lock()
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while await self._reader.read(64 << 10):
                self._said.set()
        self.has_ended = True
        self._said.set()

    async def news(self) -> None:
        """Returns when there may be more in the log, or the machine has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._said.wait()
            await asyncio.sleep(SETTLE_SECONDS)
        self._said.clear()

    async def type(self, content: bytes) -> None:
        """As fast as the guest reads."""
        async with self._typing:
            with contextlib.suppress(OSError):
                self._writer.write(content)
                await self._writer.drain()

    async def close(self) -> None:
        self._draining.cancel()
        self._writer.close()


class Consoles(Server):
    """Serves a channel: `{"what": "serial" | "vnc" | "log", "machine": id, "generation": n, "ask": true?}`."""

    def __init__(self, paths: Paths) -> None:
        self._ledger = paths.ledger
        self._homes = Homes(paths)
        self._ports: dict[str, SerialPort] = {}

    async def serve(self, channel: Channel, wish: dict[str, Any]) -> None:
        """Raises NotOpened: `not_here`, `outdated`, `not_running`, `not_offered`."""
        what, home = str(wish.get("what")), self._home(wish)
        if what == "log":
            await self._send_log(channel, home)
            return
        path = {"serial": home.serial_socket, "vnc": home.vnc_socket}.get(what)
        if path is None or (not sockets.exists(path) and sockets.exists(home.control_socket)):
            raise NotOpened("not_offered", f"this machine has no {what} console")
        if not sockets.exists(path):
            raise NotOpened("not_running", "the machine does not run")
        if wish.get("ask"):
            await channel.opened()
        elif what == "serial":
            async with self._port(str(wish["machine"]), home) as port:
                await self._attend(channel, port)
        else:
            await self._connect(channel, home, path)

    def _home(self, wish: dict[str, Any]) -> Home:
        """The machine's home. Requests for an older generation are refused."""
        try:
            home = self._homes.of(str(wish.get("machine")))
        except ValueError as error:
            raise NotOpened("not_here", "that is no machine's id") from error
        entry = ledger.look(self._ledger, key(home.directory.name))
        if entry is None or entry.quarantined or "gone" in (entry.seen, entry.wanted):
            raise NotOpened("not_here", "the machine is not on this host")
        if entry.generation > int(wish.get("generation") or 0):
            raise NotOpened("outdated", "the machine has changed since this was asked for")
        return home

    # Serial

    @asynccontextmanager
    async def _port(self, machine_id: str, home: Home) -> AsyncIterator[SerialPort]:
        """The machine's port, which all who look share: an emulator speaks to one at a time."""
        port = self._ports.get(machine_id)
        if port is None or port.has_ended:
            port = self._ports[machine_id] = SerialPort(home, *await _open(home, home.serial_socket))
        port.viewers += 1
        try:
            yield port
        finally:
            port.viewers -= 1
            if not port.viewers:
                if self._ports.get(machine_id) is port:
                    del self._ports[machine_id]
                await port.close()

    @staticmethod
    async def _attend(channel: Channel, port: SerialPort) -> None:
        size = _size(port.log)
        offset = max(0, size - SCROLL_BACK)
        await channel.opened(before=size - offset)

        async def show() -> None:
            nonlocal offset
            while True:
                has_ended = port.has_ended
                offset = max(offset, _size(port.log) - MIN_KEPT_BYTES)
                content = _read(port.log, offset)
                if content:
                    offset += len(content)
                    await channel.write(content)
                elif has_ended:
                    return
                else:
                    await port.news()

        async def listen() -> None:
            while content := await channel.read():
                await port.type(content)

        await _until_one_ends(show, listen)
        await channel.close(GONE if port.has_ended else "")

    # The screen: RFB (RFC 6143) between the emulator and the browser, as it is

    @staticmethod
    async def _connect(channel: Channel, home: Home, path: Path) -> None:
        reader, writer = await _open(home, path)
        await channel.opened()

        async def show() -> None:
            while content := await reader.read(READ_AT_ONCE):
                await channel.write(content)

        async def listen() -> None:
            while content := await channel.read():
                writer.write(content)
                await writer.drain()

        try:
            await _until_one_ends(show, listen)
        finally:
            writer.close()
        await channel.close(GONE)

    # The log

    @staticmethod
    async def _send_log(channel: Channel, home: Home) -> None:
        """The kept part of the serial log."""
        size = _size(home.console_log)
        offset = max(_first_byte(home.console_log), size - MAX_LOG_BYTES)
        await channel.opened(offset=offset)
        while offset < size and (content := _read(home.console_log, offset)):
            offset += len(content)
            await channel.write(content)


async def _open(home: Home, path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(MAX_SECONDS_TO_CONNECT):
            with sockets.address(home, path) as name:
                await asyncio.get_running_loop().sock_connect(connection, name)
            return await asyncio.open_unix_connection(sock=connection)
    except (OSError, TimeoutError) as error:
        connection.close()
        raise NotOpened("not_running", "the machine's emulator does not answer") from error


async def _until_one_ends(*sides: Callable[[], Awaitable[None]]) -> None:
    """Run both directions until one of them has nothing more to carry."""
    tasks = [asyncio.ensure_future(side()) for side in sides]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (fault := task.exception()) and not isinstance(fault, OSError | Closed):
                raise fault
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _size(log: Path) -> int:
    status = folders.status(log)
    return status.st_size if status else 0


def _read(log: Path, offset: int) -> bytes:
    """The file belongs to the emulator's user, who may have put anything in its place."""
    return _in_file(log, lambda handle: os.pread(handle, READ_AT_ONCE, offset), b"")


def _first_byte(log: Path) -> int:
    """Where the log begins that was not given back to the filesystem."""

    def find(handle: int) -> int:
        try:
            return os.lseek(handle, 0, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return 0
            raise

    return _in_file(log, find, 0)


def _in_file(log: Path, act: Callable[[int], T], otherwise: T) -> T:
    try:
        handle = folders.open_file(log)
    except OSError:
        return otherwise
    try:
        return act(handle)
    finally:
        os.close(handle)
