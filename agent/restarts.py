"""Parts of the agent that end again and again without having been told to.

A supervisor starts them anew each time, so that everything works, slowly, and nobody looks. Each part notes when it
began, and takes the note back when it ends as it was told; the worker tells the control plane of notes that stay.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator

import structlog

from agent.kinds import Problem
from agent.paths import Paths, make_passable

log = structlog.get_logger()

SECONDS_REMEMBERED = 3600.0
MIN_ENDS = 3  # within that time; fewer are an accident, or an admin's `kill`
MAX_NOTES = 100


class Restarts:
    """The notes of all parts: one file for each, with the times at which it began, in seconds since 1970."""

    def __init__(self, paths: Paths, clock: Callable[[], float] = time.time) -> None:
        self._folder = paths.restarts
        self._clock = clock

    @contextlib.contextmanager
    def noted(self, part: str) -> Iterator[None]:
        """While this part runs. A note stays when it is killed, or ends by an exception other than Ctrl-C's."""
        began = self._clock()
        self._write(part, [*self._read(part), began])
        try:
            yield
        except KeyboardInterrupt:
            self._take_back(part, began)
            raise
        self._take_back(part, began)

    def problems(self) -> list[Problem]:
        """For the heartbeat: the parts that have ended too often within the last hour."""
        found = []
        for part in sorted(path.name for path in self._folder.glob("[!.]*")):
            ends = len(self._read(part)) - 1  # the last one runs
            if ends >= MIN_ENDS:
                words = f"pileus-agent {part} ended {ends} times within an hour and was started again each time"
                found.append({"what": "restarts", "problem": words})
        return found

    def _take_back(self, part: str, began: float) -> None:
        notes = self._read(part)
        if began in notes:
            notes.remove(began)
        self._write(part, notes)

    def _read(self, part: str) -> list[float]:
        try:
            notes = json.loads((self._folder / part).read_text())
        except (OSError, ValueError):  # none yet, or torn by a power cut
            return []
        now = self._clock()
        return [note for note in notes if now - SECONDS_REMEMBERED < note <= now]

    def _write(self, part: str, notes: list[float]) -> None:
        path = self._folder / part
        try:
            make_passable(path.parent)
            new = path.with_name(f".{part}.new")
            new.write_text(json.dumps(notes[-MAX_NOTES:]))
            new.replace(path)
        except OSError as problem:  # for example a full disk, which is reported by others
            log.warning("cannot note that this part began", part=part, problem=str(problem))
