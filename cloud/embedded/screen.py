"""What the user sees: a line per finished step with its seconds; on a terminal also what is under way right now."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

TICK_SECONDS = 0.5
REMINDER_SECONDS = 15


class Step:
    """A piece of work that the user waits for. `note` says what it is doing, `result` how it ended."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""
        self.result = ""
        self.began = time.monotonic()
        self.reminded = self.began

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def running_line(self) -> str:
        return f"{self.title}{': ' + self.note if self.note else ''} … {self.seconds:.0f} s"

    def finished_line(self) -> str:
        title = f"{self.title}{': ' + self.result if self.result else ''}"
        return f"  {title:<44} {self.seconds:>6.1f} s"


class Screen:
    """Steps may run side by side, in threads. A pipe gets plain lines, and a reminder every 15 s of a slow step."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self.out = out
        self.live = out.isatty()
        self.lock = threading.Lock()
        self.running: list[Step] = []
        self.closed = threading.Event()
        self.ticker: threading.Thread | None = None

    def __enter__(self) -> "Screen":
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        self.ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed.set()
        if self.ticker:
            self.ticker.join()
        with self.lock:
            self._clear()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step shown while its block runs; a step that fails leaves no line, as its error is printed instead."""
        step = Step(title)
        with self.lock:
            self.running.append(step)
        try:
            yield step
        except BaseException:
            with self.lock:
                self.running.remove(step)
            raise
        with self.lock:
            self.running.remove(step)
        self.say(step.finished_line())

    def say(self, line: str) -> None:
        with self.lock:
            self._clear()
            print(line, file=self.out, flush=True)

    def _clear(self) -> None:
        if self.live:
            print("\r\033[K", end="", file=self.out, flush=True)

    def _tick(self) -> None:
        while not self.closed.wait(TICK_SECONDS):
            with self.lock:
                if self.live:
                    line = " · ".join(step.running_line() for step in self.running)
                    print(f"\r\033[K  {line[:100]}", end="", file=self.out, flush=True)
                    continue
                for step in self.running:
                    if time.monotonic() - step.reminded >= REMINDER_SECONDS:
                        step.reminded = time.monotonic()
                        print(f"  {step.running_line()}", file=self.out, flush=True)
