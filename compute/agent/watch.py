"""Watches the emulators of this host: one thread that sleeps until one of them sends an event or ends.

A pidfd tells of the end at once, an emulator's event socket of what its guest does; neither costs anything while
nothing happens.
"""

import contextlib
import os
import selectors
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.errors import NoAnswer, Refused
from agent.host import Host
from agent.processes import Process, exit_words
from compute.agent.records import key

if TYPE_CHECKING:
    from compute.agent.kinds import Machines

log = structlog.get_logger()

MAX_READS = 16  # per emulator in one turn, so that others are not held up


@dataclass
class Watched:
    """What is watched of one machine."""

    process: Process
    pidfd: int
    events: socket.socket | None


class Watch(threading.Thread):
    """Calls `host.notice` for each machine to which something may have happened."""

    def __init__(self, host: Host, machines: "Machines") -> None:
        super().__init__(name="watch", daemon=True)
        self._host = host
        self._machines = machines
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, Watched] = {}
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)

    def wake(self) -> None:
        """Machines may have come or gone: look which ones to watch."""
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"x")

    def run(self) -> None:
        while not self._host.stopping.is_set():
            try:
                self._choose()
                for key, _ in self._selector.select():
                    if key.data is None:
                        self._wake_read.recv(4096)
                    elif key.data in self._watched:
                        self._happened(key.data, key.fd)
            except Exception:
                log.exception("the watch stumbled")
                self._host.stopping.wait(1.0)

    def _choose(self) -> None:
        """Watch the live processes that the ledger knows, and no others."""
        records = self._machines.tools.records.all()
        alive = {machine_id: record.process for machine_id, record in records.items() if record.process}
        for machine_id, watched in list(self._watched.items()):
            if alive.get(machine_id) != watched.process:
                self._forget(machine_id)
        for machine_id, process in alive.items():
            if machine_id not in self._watched and process.alive:
                self._begin(machine_id, process)

    def _begin(self, machine_id: str, process: Process) -> None:
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        events = None
        try:
            machine = self._machines.machine(machine_id)
            entry = self._host.ledger.get(machine.key)
            if entry:
                events = machine.hypervisor(entry).events(machine.home)
        except (NoAnswer, Refused) as problem:
            log.warning("no events from a machine", machine=machine_id, problem=str(problem))
        self._watched[machine_id] = Watched(process, pidfd, events)
        self._selector.register(pidfd, selectors.EVENT_READ, machine_id)
        if events:
            self._selector.register(events, selectors.EVENT_READ, machine_id)
        self._notice(machine_id)  # for events before the watch began

    def _forget(self, machine_id: str) -> None:
        watched = self._watched.pop(machine_id)
        if watched.events:
            self._selector.unregister(watched.events)
            watched.events.close()
        self._selector.unregister(watched.pidfd)
        os.close(watched.pidfd)

    def _happened(self, machine_id: str, descriptor: int) -> None:
        watched = self._watched[machine_id]
        ended = ""
        if descriptor == watched.pidfd:
            ended = exit_words(watched.process, watched.pidfd)
            self._forget(machine_id)
        elif watched.events and not _drain(watched.events):
            self._selector.unregister(watched.events)
            watched.events.close()
            watched.events = None
            return  # the end of the process is told by its pidfd
        self._notice(machine_id, ended)

    def _notice(self, machine_id: str, ended: str = "") -> None:
        """Look at a machine without keeping others waiting: its emulator may take its time to answer."""
        self._host.beside(lambda: self._host.notice(key(machine_id), ended))
        if not ended:
            self._machines.ask_guest_soon(machine_id)


def _drain(events: socket.socket) -> bool:
    """Drain the socket, up to a limit; returns whether the other side is still connected."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(MAX_READS):
            try:
                if not events.recv(65536):
                    return False
            except ConnectionError:
                return False
    return True
