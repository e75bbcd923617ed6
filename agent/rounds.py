"""The clock of a host: one thread that claims, beats, renews and reports when it is time, with Redis or without.

Another thread looks at the resources.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from agent.errors import Unreachable
from agent.host import Host

log = structlog.get_logger()

SECONDS_BETWEEN_LOOKS = 15.0
SECONDS_BETWEEN_RENEWALS = 20.0
SECONDS_BETWEEN_TIDYINGS = 3600.0
SECONDS_BETWEEN_INSPECTIONS = 5.0
SECONDS_BETWEEN_THOROUGH_INSPECTIONS = 60.0
SECONDS_BETWEEN_HEARTBEATS = 1.0  # however much happens
MAX_PAUSE = 15.0


class Round:
    """Something that is done every so many seconds, and sooner when asked."""

    def __init__(self, name: str, seconds: float, task: Callable[[], object]) -> None:
        self.name = name
        self.seconds = seconds
        self.task = task
        self.due = 0.0
        self.failures = 0

    def run(self) -> None:
        """Do it; without an answer from the control plane the next time is sooner at first, later and later then."""
        try:
            self.task()
        except Unreachable as problem:
            self.failures += 1
            if self.failures == 1:
                log.warning("the control plane does not answer", round=self.name, problem=str(problem))
            self.due = time.monotonic() + min(2.0 ** (self.failures - 1), self.seconds, MAX_PAUSE)
        except Exception:
            log.exception("a round failed", round=self.name)
            self.due = time.monotonic() + self.seconds
        else:
            if self.failures:
                log.info("the control plane answers again", round=self.name)
            self.failures = 0
            self.due = time.monotonic() + self.seconds


class Inspections(threading.Thread):
    """Looks at resources by itself, in case nobody said that something happened. A thread of its own: an emulator that
    hangs keeps whoever asks it waiting, and that must not be the heartbeat."""

    def __init__(self, host: Host) -> None:
        super().__init__(name="inspections", daemon=True)
        self._host = host

    def run(self) -> None:
        thorough_at = 0.0
        while not self._host.stopping.is_set():
            thoroughly = time.monotonic() >= thorough_at
            if thoroughly:
                thorough_at = time.monotonic() + SECONDS_BETWEEN_THOROUGH_INSPECTIONS
            try:
                self._host.notice_all(thoroughly=thoroughly)
            except Exception:
                log.exception("an inspection failed")
            self._host.stopping.wait(SECONDS_BETWEEN_INSPECTIONS)


class Rounds(threading.Thread):
    """All that is said to the control plane and asked of it. `hear` gets what it answers to heartbeats."""

    def __init__(self, host: Host, heartbeat_seconds: float, hear: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(name="rounds", daemon=True)
        self._host = host
        self._bell = False
        self._report = Round("report", SECONDS_BETWEEN_LOOKS, self._report_all)
        self._heartbeat = Round("heartbeat", heartbeat_seconds, lambda: hear(host.heartbeat()))
        self._look = Round("look", SECONDS_BETWEEN_LOOKS, self._look_once)
        self._renew = Round("renew", SECONDS_BETWEEN_RENEWALS, host.renew_leases)
        tidy = Round("tidy", SECONDS_BETWEEN_TIDYINGS, host.tidy)
        # The heartbeat first: a host that comes back may have been declared lost, and starts nothing again then.
        self._rounds = [self._heartbeat, self._report, self._look, self._renew, tidy]

    def ring(self) -> None:
        """The doorbell: look now."""
        self._bell = True
        self._host.changed.set()

    def run(self) -> None:
        host = self._host
        while not host.stopping.is_set():
            if host.changed.is_set():
                host.changed.clear()
                host.wake()
                self._hasten(self._report)
                self._hasten(self._heartbeat, within=SECONDS_BETWEEN_HEARTBEATS)
            if self._bell:
                self._bell = False
                self._hasten(self._look)
            for each in self._rounds:
                if time.monotonic() >= each.due and not host.stopping.is_set():
                    each.run()
            host.changed.wait(max(0.05, min(each.due for each in self._rounds) - time.monotonic()))

    @staticmethod
    def _hasten(round_: Round, within: float = 0.0) -> None:
        """Do it now, or `within` seconds; not when the control plane is away: then it has its turn already."""
        if not round_.failures:
            round_.due = min(round_.due, time.monotonic() + within)

    def _report_all(self) -> None:
        try:
            self._host.send_reports()
        finally:
            self._host.revive()

    def _look_once(self) -> None:
        self._host.look()
        self._host.wake()
