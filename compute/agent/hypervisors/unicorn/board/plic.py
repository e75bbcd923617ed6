# SPDX-License-Identifier: GPL-2.0-or-later
"""The platform-level interrupt controller, with one context: hart 0 in supervisor mode.

Source: RISC-V Platform-Level Interrupt Controller Specification 1.0.0; `sifive,plic-1.0.0` in Linux's devicetree
bindings. Interrupts are levels: a source that is still high when its handler completes is pending again.
"""

from collections.abc import Callable
from typing import Any

SOURCES = 32  # number 0 is no source
MAX_PRIORITY = 7
SIZE = 0x40_0000
PENDING, ENABLE, THRESHOLD, CLAIM = 0x1000, 0x2000, 0x20_0000, 0x20_0004


class Plic:
    """`signal` is called with whether the hart's external interrupt is raised."""

    def __init__(self, signal: Callable[[bool], None]) -> None:
        self._signal = signal
        self._raised = False
        self.priorities = [0] * SOURCES
        self.levels = self.edges = self.enabled = self.threshold = self.claimed = 0

    def set_level(self, source: int, high: bool) -> None:
        """A device raises or lowers its line."""
        levels = self.levels | 1 << source if high else self.levels & ~(1 << source)
        if levels != self.levels:
            self.levels = levels
            self._update()

    def pulse(self, source: int) -> None:
        """A device without a register to answer its interrupt: the line goes down when it is claimed."""
        self.edges |= 1 << source
        self.set_level(source, True)

    def read(self, offset: int, size: int) -> int:
        if offset < SOURCES * 4:
            return self.priorities[offset // 4]
        if offset == PENDING:
            return self.levels & ~self.claimed
        if offset == ENABLE:
            return self.enabled
        if offset == THRESHOLD:
            return self.threshold
        if offset == CLAIM:
            return self._claim()
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if 4 <= offset < SOURCES * 4:
            self.priorities[offset // 4] = value & MAX_PRIORITY
        elif offset == ENABLE:
            self.enabled = value & 0xFFFF_FFFE
        elif offset == THRESHOLD:
            self.threshold = value & MAX_PRIORITY
        elif offset == CLAIM:
            # A completion of a source that the context has not enabled is ignored (section 9).
            if value < SOURCES and self.enabled >> value & 1:
                self.claimed &= ~(1 << value)
        else:
            return
        self._update()

    def _best(self) -> int:
        """The pending source with the highest priority above the threshold; the lowest number among equals."""
        waiting = self.levels & self.enabled & ~self.claimed
        best, best_priority = 0, self.threshold
        while waiting:
            source = (waiting & -waiting).bit_length() - 1
            waiting &= waiting - 1
            if self.priorities[source] > best_priority:
                best, best_priority = source, self.priorities[source]
        return best

    def _claim(self) -> int:
        source = self._best()
        if source:
            self.claimed |= 1 << source
            if self.edges >> source & 1:
                self.edges &= ~(1 << source)
                self.levels &= ~(1 << source)
            self._update()
        return source

    def _update(self) -> None:
        raised = self._best() != 0
        if raised != self._raised:
            self._raised = raised
            self._signal(raised)

    def save(self) -> dict[str, Any]:
        return {
            "priorities": self.priorities,
            "levels": self.levels,
            "edges": self.edges,
            "enabled": self.enabled,
            "threshold": self.threshold,
            "claimed": self.claimed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The hart's own interrupt bits are restored with the hart."""
        self.priorities = [int(value) & MAX_PRIORITY for value in state["priorities"]][:SOURCES]
        self.levels, self.edges, self.enabled = int(state["levels"]), int(state["edges"]), int(state["enabled"])
        self.threshold, self.claimed = int(state["threshold"]), int(state["claimed"])
        self._raised = self._best() != 0
