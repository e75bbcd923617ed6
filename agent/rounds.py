"""The clock of a node: one thread that looks, beats, renews and reports when it is time, with Redis or without; and one
that looks at the machines.
"""

import threading
import time
from collections.abc import Callable

import structlog

from agent.errors import Unreachable
from agent.host import Node
from compute.agent.samples import SECONDS, Samples

log = structlog.get_logger()

SECONDS_TO_LOOK = 15.0
SECONDS_TO_RENEW = 20.0
SECONDS_TO_TIDY = 3600.0
SECONDS_TO_NOTICE = 5.0
SECONDS_TO_NOTICE_THOROUGHLY = 60.0
SECONDS_BETWEEN_HEARTBEATS = 1.0  # however much happens
LONGEST_PAUSE = 15.0


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
            self.due = time.monotonic() + min(2.0 ** (self.failures - 1), self.seconds, LONGEST_PAUSE)
        except Exception:
            log.exception("a round failed", round=self.name)
            self.due = time.monotonic() + self.seconds
        else:
            if self.failures:
                log.info("the control plane answers again", round=self.name)
            self.failures = 0
            self.due = time.monotonic() + self.seconds


class Inspections(threading.Thread):
    """Looks at machines by itself, in case nobody said that something happened. A thread of its own: an emulator that
    hangs keeps whoever asks it waiting, and that must not be the heartbeat."""

    def __init__(self, node: Node) -> None:
        super().__init__(name="inspections", daemon=True)
        self._node = node

    def run(self) -> None:
        thorough_at = 0.0
        while not self._node.stopping.is_set():
            thoroughly = time.monotonic() >= thorough_at
            if thoroughly:
                thorough_at = time.monotonic() + SECONDS_TO_NOTICE_THOROUGHLY
            try:
                self._node.notice_all(thoroughly=thoroughly)
            except Exception:
                log.exception("an inspection failed")
            self._node.stopping.wait(SECONDS_TO_NOTICE)


class Sampling(threading.Thread):
    """Measures what machines use, at even distances. A thread of its own, as it asks emulators."""

    def __init__(self, node: Node, samples: Samples) -> None:
        super().__init__(name="samples", daemon=True)
        self._node = node
        self._samples = samples

    def run(self) -> None:
        due = time.monotonic()
        while not self._node.stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + SECONDS, time.monotonic())
            try:
                self._samples.take()
                self._samples.tell()
            except Unreachable:
                pass  # the heartbeat says so; what was measured is kept for a while
            except Exception:
                log.exception("samples were not taken")


class Rounds(threading.Thread):
    """All that is said to the control plane and asked of it. `wake_watch`: machines may have come or gone."""

    def __init__(self, node: Node, heartbeat_seconds: float, wake_watch: Callable[[], None]) -> None:
        super().__init__(name="rounds", daemon=True)
        self._node = node
        self._wake_watch = wake_watch
        self._bell = False
        self._report = Round("report", SECONDS_TO_LOOK, self._report_all)
        self._heartbeat = Round("heartbeat", heartbeat_seconds, node.heartbeat)
        self._look = Round("look", SECONDS_TO_LOOK, self._look_once)
        self._renew = Round("renew", SECONDS_TO_RENEW, node.renew_leases)
        tidy = Round("tidy", SECONDS_TO_TIDY, node.tidy)
        self._rounds = [self._report, self._heartbeat, self._look, self._renew, tidy]

    def ring(self) -> None:
        """The doorbell: look now."""
        self._bell = True
        self._node.changed.set()

    def run(self) -> None:
        node = self._node
        while not node.stopping.is_set():
            if node.changed.is_set():
                node.changed.clear()
                self._wake_watch()
                self._hasten(self._report)
                self._hasten(self._heartbeat, within=SECONDS_BETWEEN_HEARTBEATS)
            if self._bell:
                self._bell = False
                self._hasten(self._look)
            for each in self._rounds:
                if time.monotonic() >= each.due and not node.stopping.is_set():
                    each.run()
            node.changed.wait(max(0.05, min(each.due for each in self._rounds) - time.monotonic()))

    @staticmethod
    def _hasten(round_: Round, within: float = 0.0) -> None:
        """Do it now, or `within` seconds; not when the control plane is away: then it has its turn already."""
        if not round_.failures:
            round_.due = min(round_.due, time.monotonic() + within)

    def _report_all(self) -> None:
        try:
            self._node.send_reports()
        finally:
            self._node.revive()

    def _look_once(self) -> None:
        self._node.look()
        self._wake_watch()
