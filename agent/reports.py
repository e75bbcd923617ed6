"""Reports: owed to the control plane until it takes each of them, does not want it any more, or cannot read it."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from agent import faults
from agent.control_plane import OUTDATED
from agent.entries import Entry, Key
from agent.errors import NotWritten, Refused, Unreachable
from agent.kinds import Problem, Tools

log = structlog.get_logger()

SECONDS_UNTIL_SENT_AGAIN = 300.0

faults.declare("reports.after_report")


@dataclass(frozen=True)
class Refusal:
    """A report that the control plane cannot read, why, and when it was sent last."""

    sequence: int
    why: str
    sent_at: float


class Reports:
    """Sends what is owed. `clock`: seconds that only rise."""

    def __init__(self, tools: Tools, clock: Callable[[], float] = time.monotonic) -> None:
        self._tools = tools
        self._clock = clock
        self._refusals: dict[Key, Refusal] = {}

    def send(self) -> None:
        """Send every report that is owed. Raises Unreachable: then it is owed still.

        One that the control plane cannot read stays owed, but is sent again after a while only, unless it changes.
        """
        self._tools.unwritten.write_down()
        for report in self._tools.unwritten.untold():
            self._send_unwritten(report)
        owed = self._tools.ledger.unanswered()
        keys = {entry.key for entry in owed}
        self._refusals = {key: refusal for key, refusal in self._refusals.items() if key in keys}
        due = [(entry, entry.report) for entry in owed if entry.report]
        due = [(entry, one) for entry, one in due if not self._was_refused_lately(entry.key, one["sequence"])]
        outcomes = self._tools.control_plane.report_all([one for _, one in due])
        unknown = None
        for (entry, one), outcome in zip(due, outcomes, strict=True):
            if isinstance(outcome, Unreachable):
                unknown = outcome
            else:
                self._settle(entry, one, outcome)
        if unknown:
            raise unknown

    def _send_unwritten(self, report: dict[str, Any]) -> None:
        try:
            self._tools.control_plane.report(report)
        except Refused as refusal:
            log.error("the control plane cannot read a report", **report["resource"], problem=str(refusal))
        self._tools.unwritten.told(report)

    def problems(self) -> list[Problem]:
        """The reports that the control plane cannot read, for its heartbeat."""
        return [
            {"what": "report", "problem": refusal.why, "type": key.type, "id": key.id}
            for key, refusal in list(self._refusals.items())
        ]

    def _was_refused_lately(self, key: Key, sequence: int) -> bool:
        refusal = self._refusals.get(key)
        if refusal is None or refusal.sequence != sequence:
            return False
        return self._clock() - refusal.sent_at < SECONDS_UNTIL_SENT_AGAIN

    def _settle(self, entry: Entry, report: dict[str, Any], outcome: str | Refused) -> None:
        about = {"type": entry.type, "id": entry.id, "seen": report["seen"], "generation": report["generation"]}
        if isinstance(outcome, Refused):
            log.error("the control plane cannot read a report", **about, problem=str(outcome))
            self._refusals[entry.key] = Refusal(report["sequence"], str(outcome), self._clock())
            return
        faults.reach("reports.after_report")
        self._refusals.pop(entry.key, None)
        with contextlib.suppress(NotWritten):  # then it is sent again, which does no harm
            self._tools.ledger.acknowledged(entry.key, report["sequence"])
        if outcome == OUTDATED:
            log.info("a report was outdated", **about)
            if kind := self._tools.kinds.get(entry.type):
                kind.stand_down(entry)
