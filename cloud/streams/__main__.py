"""The streams process: event streams, long polls, consoles and the hosts' lines, which web hands over to it. Run it as

    python -m cloud.streams

It listens on the Unix datagram socket PILEUS_STREAMS_SOCKET, where web puts accepted connections, and to PostgreSQL's
notifications `events`, `operations` and `hints`. It keeps nothing: after a restart clients come back and go on where
they were.
"""

import asyncio
import json
import logging
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import psycopg
from django.conf import settings

if TYPE_CHECKING:
    from cloud.streams.switchboard import Switchboard

Accept = Callable[[Any, socket.socket], Awaitable[None]]

log = logging.getLogger("cloud.streams")

RECONNECT_SECONDS = 1.0
PROBE_SECONDS = 10.0


async def listen(switchboard: "Switchboard", connect: dict[str, Any]) -> None:
    """Passes PostgreSQL's notifications on, and comes back to it whenever the connection is lost."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(**connect, autocommit=True) as connection:
                await connection.execute("LISTEN events")
                await connection.execute("LISTEN operations")
                await connection.execute("LISTEN hints")
                switchboard.ring_all()
                while True:
                    async for notice in connection.notifies(timeout=PROBE_SECONDS):
                        heard(switchboard, notice.channel, notice.payload)
                    await connection.execute("SELECT 1")
        except (psycopg.Error, OSError) as error:
            log.warning("streams.database_unavailable: %s", error)
            await asyncio.sleep(RECONNECT_SECONDS)


def heard(switchboard: "Switchboard", channel: str, payload: str) -> None:
    if channel == "operations":
        switchboard.ring_operation(payload)
        return
    if channel == "hints":
        switchboard.hint(json.loads(payload))
        return
    switchboard.ring_project(payload or None)
    if not payload:
        switchboard.recheck()  # users and tokens belong to no project


def open_socket(path: str) -> socket.socket:
    """Where web's datagrams arrive. Only our own user may send any: they are trusted."""
    Path(path).unlink(missing_ok=True)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = os.umask(0o177)
    try:
        line.bind(path)
    finally:
        os.umask(before)
    line.setblocking(False)
    return line


def receive(line: socket.socket, accept: dict[str, Accept], tasks: "set[asyncio.Task[None]]") -> None:
    """Takes every connection that waits to be taken; `accept` has who takes it, by what is wanted."""
    from cloud.streams.handover import MAX_MESSAGE, Message

    while True:
        try:
            datagram, descriptors, _, _ = socket.recv_fds(line, MAX_MESSAGE, 4)
        except BlockingIOError:
            return
        clients = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        try:
            message, client = Message.decode(datagram), clients.pop()
            taker = accept[message.want]
        except (ValueError, TypeError, KeyError, IndexError):
            log.warning("streams.message_not_understood")
            continue
        task = asyncio.ensure_future(take(taker, message, client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def take(accept: Accept, message: Any, client: socket.socket) -> None:
    try:
        await accept(message, client)
    except Exception:
        log.warning("streams.connection_lost", exc_info=True)
        client.close()


async def main() -> None:
    from django.db import connections

    from cloud.streams.consoles import Consoles
    from cloud.streams.hosts import Hosts
    from cloud.streams.switchboard import Switchboard

    switchboard, hosts = Switchboard(), Hosts()
    accept: dict[str, Accept] = {
        "events": switchboard.accept,
        "operation": switchboard.accept,
        "console": Consoles(switchboard, hosts).accept,
        "host": hosts.accept,
        "answer": hosts.answer,
    }
    tasks: set[asyncio.Task[None]] = set()
    connect = {
        name: value
        for name, value in connections["default"].get_connection_params().items()
        if name not in {"cursor_factory", "context", "prepare_threshold", "autocommit"}
    }
    loop = asyncio.get_running_loop()
    line = open_socket(settings.STREAMS_SOCKET)
    loop.add_reader(line, receive, line, accept, tasks)
    for forever in (
        switchboard.serve(),
        switchboard.keep_alive(),
        switchboard.recheck_now_and_then(),
        hosts.end_removed(switchboard.ask),
        listen(switchboard, connect),
    ):
        tasks.add(asyncio.ensure_future(forever))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    loop.remove_reader(line)
    Path(settings.STREAMS_SOCKET).unlink(missing_ok=True)
    await asyncio.gather(switchboard.stop(), hosts.stop())
    await asyncio.sleep(0.1)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cloud.settings")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    django.setup()
    _ = settings.SECRET_KEY  # without one it fails now
    asyncio.run(main())
