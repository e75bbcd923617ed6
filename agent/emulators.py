"""The emulator of a machine, or of a volume that is served: which process is it?

Every emulator inherits a locked file (`alive`). The lock goes when the process goes, so nothing is started twice, not
even by a worker that was killed before it could write down a pid.
"""

import time
from pathlib import Path
from typing import Protocol

from agent import folders
from agent.errors import NoAnswer
from agent.processes import Process, is_locked

MAX_PID_BYTES = 64
MAX_SECONDS_TO_WRITE_PID = 10.0  # from a fork to its pid in a file, on a busy host


class Home(Protocol):
    """Where an emulator has its files. Nobody but the agent writes in the folders of `alive` and `pid`."""

    @property
    def alive(self) -> Path:
        """The file that it holds locked for as long as it lives."""

    @property
    def pid(self) -> Path: ...

    @property
    def emulator_log(self) -> Path: ...


def find(home: Home, patience: float | None = None) -> Process | None:
    """The live emulator of a home. Waits for one that has just been started to write its pid.

    Raises NoAnswer when something holds its lock and does not say what it is.
    """
    deadline = time.monotonic() + (MAX_SECONDS_TO_WRITE_PID if patience is None else patience)
    while True:
        process = read_pid(home)
        if process and process.alive:
            return process
        if not is_locked(home.alive):
            return None
        if time.monotonic() > deadline:
            raise NoAnswer("an emulator is starting here, or a process that it left behind holds its lock")
        time.sleep(0.01)


def read_pid(home: Home) -> Process | None:
    """The pid and start time that the emulator's process wrote before it began."""
    try:
        pid, started = folders.read_file(home.pid, MAX_PID_BYTES).split()
        return Process(int(pid), int(started))
    except (OSError, ValueError):
        return None
