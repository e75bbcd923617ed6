"""Answers to orders that the ledger could not take, mostly because the disk is full: kept in memory, told from there.

A host that says nothing would leave its tenants waiting. Nothing is done without the ledger; but that nothing was done,
and why, can be said. What was done before the disk was full is written down as soon as that is possible again.
"""

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

from agent.entries import Key, key_of
from agent.errors import NotWritten
from agent.ledger import Ledger

Sight = tuple[str, dict[str, Any]]


@dataclass
class Answer:
    """`is_in_hand`: the ledger has the order, and is to learn of the answer."""

    order: dict[str, Any]
    sight: Sight
    report: dict[str, Any]
    is_in_hand: bool
    is_told: bool = False


class Unwritten:
    """The answers, one for each resource. Safe to use from many threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._answers: dict[Key, Answer] = {}

    def keep(self, order: dict[str, Any], sight: Sight, *, is_in_hand: bool = False) -> None:
        """Owe the control plane the report that this order ended so."""
        key = key_of(order)
        report = {
            "resource": key._asdict(),
            "generation": int(order["generation"]),
            "sequence": self._ledger.take_sequence(key),
            "seen": sight[0],
            "facts": sight[1],
        }
        with self._lock:
            self._answers[key] = Answer(order, sight, report, is_in_hand)

    def untold(self) -> list[dict[str, Any]]:
        """The reports that are owed."""
        with self._lock:
            return [answer.report for answer in self._answers.values() if not answer.is_told]

    def told(self, report: dict[str, Any]) -> None:
        """The control plane has answered to this report."""
        key = Key(**report["resource"])
        with self._lock:
            answer = self._answers.get(key)
            if answer and answer.report is report:
                answer.is_told = True
                if not answer.is_in_hand:
                    del self._answers[key]

    def write_down(self) -> None:
        """Write into the ledger what it should have learned, where that is possible now."""
        with self._lock:
            waiting = [(key, answer) for key, answer in self._answers.items() if answer.is_in_hand]
        for key, answer in waiting:
            with contextlib.suppress(NotWritten):
                entry = self._ledger.get(key)
                if entry and entry.order and entry.order["id"] == answer.order["id"]:  # no newer one has come
                    self._ledger.saw(key, *answer.sight, answers=answer.order)
                with self._lock:
                    if self._answers.get(key) is answer:
                        del self._answers[key]
