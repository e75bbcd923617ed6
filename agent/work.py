"""Work in hand: something that may be told to stop at its next step."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent.errors import Abandoned


class Work:
    """One order being obeyed. Whoever takes it over, or ends the worker, abandons it; it notices when it next looks."""

    def __init__(self, order: dict[str, Any] | None = None) -> None:
        self.order = order or {}
        self.is_waiting = False
        self._abandoned = threading.Event()

    def abandon(self) -> None:
        self._abandoned.set()

    def check(self) -> None:
        """Raises Abandoned when this work is no longer wanted."""
        if self._abandoned.is_set():
            raise Abandoned

    def sleep(self, seconds: float) -> None:
        """Wait; raises Abandoned as soon as this work is no longer wanted."""
        if self._abandoned.wait(seconds):
            raise Abandoned

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While it waits for what another order makes."""
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False
