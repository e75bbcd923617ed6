"""Who waits for what: PostgreSQL says that something happened, the database is asked once, all who wait are told."""

import asyncio
import itertools
import logging
import socket
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Protocol, TypeVar

from cloud.api.etags import etag
from cloud.events.reading import Cursor
from cloud.problems import NotFound, RateLimited
from cloud.streams import rows
from cloud.streams.connections import Connection
from cloud.streams.handover import Caller, Message

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 15
RECHECK_SECONDS = 30
RECHECK_CONSOLES_SECONDS = 5
MAX_OF_ONE_CALLER = 64
PAGE = 200
SETTLE_SECONDS = 0.1  # until events that are not yet settled are looked at again
RETRY_SECONDS = 1.0  # after the database did not answer
T = TypeVar("T")


class TooMany(RateLimited):
    title: ClassVar[str] = "Too many open waits and streams"


class Guest(Protocol):
    """Somebody's connection that is not this file's business but for its rights."""

    caller: Caller

    def close(self) -> None: ...


class Switchboard:
    """All connections of this process. Everything but the database's answers happens in one thread."""

    def __init__(self) -> None:
        self.streams: dict[str | None, set[Connection]] = {}  # by project
        self.waits: dict[str, set[Connection]] = {}  # by operation
        self.guests: set[Guest] = set()  # others whose rights are looked after: consoles
        self.of_caller: Counter[tuple[str, str | None]] = Counter()
        self._rung_projects: set[str | None] = set()
        self._rung_operations: set[str] = set()
        self._new: set[Guest] = set()  # streams whose rights may have been revoked while they were on their way
        self._recheck_due = False
        self._bell = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="rows")

    async def ask(self, question: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question, *arguments)

    # Connections come and go

    async def accept(self, message: Message, client: socket.socket) -> None:
        """Take one connection in, or refuse it in words."""
        connection = await Connection.open(client, message, self._closed)
        holder = (connection.caller.user, connection.caller.token)
        self.of_caller[holder] += 1
        if self.of_caller[holder] > MAX_OF_ONE_CALLER:
            words = f"You have {MAX_OF_ONE_CALLER} open. Close some."
            connection.refuse(TooMany(words, headers={"Retry-After": "5"}))
        elif message.want == "operation" and message.subject:
            self._wait(connection, message.subject, message.seconds)
        else:
            await self._follow(connection)

    def _wait(self, connection: Connection, operation: str, seconds: int) -> None:
        if not connection.is_open:  # its end has been noted: nothing else would take it out again
            return
        self.waits.setdefault(operation, set()).add(connection)
        loop = asyncio.get_running_loop()
        connection.deadline = loop.call_later(seconds, lambda: asyncio.ensure_future(self._time_is_up(connection)))
        self.ring_operation(operation)  # it may have finished while the connection was on its way

    async def _follow(self, connection: Connection) -> None:
        if connection.cursor is None:  # asked before the client hears that it follows: it misses nothing after that
            connection.cursor = await self.ask(rows.present_cursor)
        if not connection.is_open:  # as above
            return
        connection.begin_events()
        project = connection.caller.project
        self.streams.setdefault(project, set()).add(connection)
        self._new.add(connection)
        self.ring_project(project)

    def _closed(self, connection: Connection) -> None:
        message = connection.message
        holder = (connection.caller.user, connection.caller.token)
        self.of_caller[holder] -= 1
        if not self.of_caller[holder]:
            del self.of_caller[holder]
        table: dict[Any, set[Connection]] = self.waits if message.want == "operation" else self.streams
        key = message.subject if message.want == "operation" else connection.caller.project
        table.get(key, set()).discard(connection)
        if not table.get(key, True):
            del table[key]

    async def _time_is_up(self, connection: Connection) -> None:
        assert connection.message.subject is not None
        try:
            body = await self.ask(rows.present, connection.message.subject)
        except Exception:
            log.warning("streams.database_unavailable", exc_info=True)
            connection.close()
            return
        await self._answer(connection, body)

    async def _answer(self, connection: Connection, body: dict[str, Any]) -> None:
        gone = await self.ask(rows.no_longer_allowed, [connection.caller])
        if not body or gone:
            connection.refuse(NotFound())
        else:
            connection.answer(200, body, {"ETag": etag(body)})

    # Bells

    def ring_project(self, project: str | None) -> None:
        if project in self.streams:
            self._rung_projects.add(project)
        if None in self.streams:
            self._rung_projects.add(None)
        if any(guest.caller.project == project for guest in self.guests):
            self._recheck_due = True
        self._bell.set()

    def hint(self, about: dict[str, str | None]) -> None:
        """Tell open pages that something is worth looking at again. It is no event: kept nowhere, lost without harm."""
        project = about["project"]
        body = {"subject": {"type": about["type"], "id": about["id"]}}
        for connection in [*self.streams.get(project, ()), *(self.streams.get(None, ()) if project else ())]:
            connection.send_hint(body)

    def ring_operation(self, operation: str) -> None:
        if operation in self.waits:
            self._rung_operations.add(operation)
            self._bell.set()

    def ring_all(self) -> None:
        """After a time without notifications: anything may have happened."""
        self._rung_projects.update(self.streams)
        self._rung_operations.update(self.waits)
        self.recheck()

    def recheck(self) -> None:
        """Have the rights of all looked at again."""
        self._recheck_due = True
        self._bell.set()

    # Work, one round at a time: bells rung meanwhile make the next round

    async def serve(self) -> None:
        """Answers bells for as long as the process lives."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            try:
                await self._round()
            except Exception:
                log.warning("streams.database_unavailable", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)
                self.ring_all()

    async def _round(self) -> None:
        operations, self._rung_operations = self._rung_operations, set()
        if operations:
            for ident, body in (await self.ask(rows.finished, operations)).items():
                for connection in list(self.waits.get(ident, ())):
                    await self._answer(connection, body)
        new, self._new = self._new, set()
        if self._recheck_due:
            self._recheck_due = False
            await self._end_all_without_rights()
        else:
            await self._end_those_without_rights(new)
        projects, self._rung_projects = self._rung_projects, set()
        for project in projects:
            await self._tell(project)

    async def _tell(self, project: str | None) -> None:
        """Send everybody what is new to them: the database is asked once, and once more for each who is far behind."""
        following = [connection for connection in self.streams.get(project, ()) if connection.cursor is not None]
        behind = sorted(following, key=_place)
        while behind:
            events, more = await self.ask(rows.next_events, project, _place(behind[0]), PAGE)
            if any(action.startswith("tenancy.") for _, _, action in events):
                await self._end_all_without_rights()
            reached = events[-1][0] if events and more else None  # None: all that there is
            told = [connection for connection in behind if reached is None or _place(connection) < reached]
            for connection in told:
                for at, body, _ in events:
                    if at > _place(connection):
                        connection.send_event(at, body)
            if more:
                delay = 0 if events else SETTLE_SECONDS
                asyncio.get_running_loop().call_later(delay, self.ring_project, project)
            behind = behind[len(told) :]

    async def _end_all_without_rights(self) -> None:
        own = [each for group in (*self.streams.values(), *self.waits.values()) for each in group]
        await self._end_those_without_rights([*own, *self.guests])

    async def _end_those_without_rights(self, connections: Collection[Guest]) -> None:
        callers = {connection.caller for connection in connections}
        gone = await self.ask(rows.no_longer_allowed, callers) if callers else set()
        for connection in connections:
            if connection.caller in gone:
                connection.close()

    async def keep_alive(self) -> None:
        """A line to every stream now and then, so that nobody in between takes it for dead."""
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            for group in list(self.streams.values()):
                for connection in list(group):
                    connection.keep_alive()

    async def recheck_now_and_then(self) -> None:
        """No event says that a session has ended, so it is checked by time; connections that can type, more often."""
        for tick in itertools.count(1):
            await asyncio.sleep(RECHECK_CONSOLES_SECONDS)
            if self.guests or tick % (RECHECK_SECONDS // RECHECK_CONSOLES_SECONDS) == 0:
                self.recheck()

    async def stop(self) -> None:
        """Answer all waits with what is known, and end the streams: their clients come back by themselves."""
        for connection in [each for group in self.waits.values() for each in group]:
            await self._time_is_up(connection)
        for connection in [each for group in self.streams.values() for each in group]:
            connection.close()


def _place(connection: Connection) -> Cursor:
    """Where in the log a connection is that follows it."""
    assert connection.cursor is not None
    return connection.cursor
