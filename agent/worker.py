"""The host worker: the doorbell on one side (`bells.py`), the host's own clock on the other (`rounds.py`).

The clock looks by itself too, so a host whose Redis is away works on: what Celery does or fails to do never stops the
host, and nothing that matters is in a message.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from agent import jail, kinds
from agent.bells import Bells
from agent.control_plane import ControlPlane
from agent.host import Host
from agent.ledger import Ledger
from agent.membership import Membership
from agent.paths import Paths
from agent.restarts import Restarts
from agent.rounds import Inspections, Rounds

MAX_SECONDS_TO_FINISH = 5.0


class HostWorker:
    """All threads of a host."""

    def __init__(self, paths: Paths, membership: Membership) -> None:
        paths.make()
        self._ledger = Ledger(paths.ledger)
        self._control_plane = ControlPlane(membership.url, membership.token)
        tools = kinds.Tools(paths, self._ledger, self._control_plane, jail.probe(paths))
        kinds.register(tools)
        self._host = Host(tools, spawn=_in_thread)
        self._rounds = Rounds(self._host, membership.heartbeat_seconds, self._hear)
        self._inspections = Inspections(self._host)
        self._bells = Bells(paths, membership, ring=self._rounds.ring, start=self.start)
        self._host.problems_of += [self._bells.problems, Restarts(paths).problems]
        self._started = False

    def run(self) -> None:
        """Work until told to stop by SIGTERM, SIGINT or SIGQUIT."""
        try:
            self._bells.run()
        finally:
            self._stop()
            self._ledger.close()
            self._control_plane.close()

    def start(self) -> None:
        """Begin to work; a second time changes nothing."""
        if self._started:
            return
        self._started = True
        self._host.quarantine_strangers()
        for kind in self._host.kinds.values():
            kind.start(self._host)
        self._rounds.start()
        self._inspections.start()

    def _hear(self, answer: dict[str, Any]) -> None:
        """What the control plane answers to a heartbeat."""
        if broker := answer.get("broker"):
            self._bells.follow(str(broker))

    def _stop(self) -> None:
        """Stop without touching resources or unfinished work: the next worker continues with both."""
        self._host.stop()
        self._host.wake()
        deadline = time.monotonic() + MAX_SECONDS_TO_FINISH
        while not self._host.is_idle() and time.monotonic() < deadline:
            time.sleep(0.05)


def run(paths: Paths, membership: Membership) -> int:
    """Work until told to stop; the exit status."""
    HostWorker(paths, membership).run()
    return 0


def _in_thread(task: Callable[[], None]) -> None:
    threading.Thread(target=task, name="work", daemon=True).start()
