"""Watches the emulators of this host: one thread that sleeps until one of them says something or ends.

A pidfd tells of the end at once, an emulator's event socket of what its guest does; neither costs anything while
nothing happens.
"""

import contextlib
import os
import selectors
import socket
import threading
from dataclasses import dataclass

import structlog

from agent.errors import NoAnswer, Refused
from agent.host import Node
from agent.processes import Process, exit_words

log = structlog.get_logger()


@dataclass
class Watched:
    """What is watched of one machine."""

    process: Process
    pidfd: int
    events: socket.socket | None


class Watch(threading.Thread):
    """Calls `node.notice` for each machine to which something may have happened."""

    def __init__(self, node: Node) -> None:
        super().__init__(name="watch", daemon=True)
        self._node = node
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, Watched] = {}
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._stopping = False

    def wake(self) -> None:
        """Machines may have come or gone: look which ones to watch."""
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"x")

    def stop(self) -> None:
        self._stopping = True
        self.wake()

    def run(self) -> None:
        while not self._stopping:
            try:
                self._choose()
                for key, _ in self._selector.select():
                    if key.data is None:
                        self._wake_read.recv(4096)
                    elif key.data in self._watched:
                        self._happened(key.data, key.fd)
            except Exception:
                log.exception("the watch stumbled")
                self._node.stopping.wait(1.0)

    def _choose(self) -> None:
        """Watch the live processes that the ledger knows, and no others."""
        alive = {entry.id: entry.process for entry in self._node.ledger.entries() if entry.process}
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
            machine = self._node.machine(machine_id)
            entry = self._node.ledger.get(machine_id)
            if entry:
                events = machine.hypervisor(entry).events(machine.home)
        except (NoAnswer, Refused) as problem:
            log.warning("no events from a machine", machine=machine_id, problem=str(problem))
        self._watched[machine_id] = Watched(process, pidfd, events)
        self._selector.register(pidfd, selectors.EVENT_READ, machine_id)
        if events:
            self._selector.register(events, selectors.EVENT_READ, machine_id)
        self._notice(machine_id)  # for what happened before anybody was watching

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
        self._node.beside(lambda: self._node.notice(machine_id, ended))


def _drain(events: socket.socket) -> bool:
    """Read away what was said; whether the other side is still there."""
    with contextlib.suppress(BlockingIOError):
        while True:
            try:
                if not events.recv(65536):
                    return False
            except ConnectionError:
                return False
    return True
