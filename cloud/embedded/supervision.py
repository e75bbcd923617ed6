"""The other end of the supervisor's socket: start it, ask it, and clear up after one that was killed."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.embedded.errors import Trouble
from cloud.embedded.files import make_folder, open_log, write_file
from cloud.embedded.paths import Home
from cloud.embedded.supervisor import boot_id, start_time


class ProcessFailed(Trouble):
    """A process does not stay up; the message has the end of its log."""


@dataclass(frozen=True)
class Running:
    """What the supervisor says of one process."""

    name: str
    state: str
    pid: int | None
    seconds: float
    ends_in_a_row: int
    last_end: str


class Supervision:
    def __init__(self, home: Home) -> None:
        self.home = home

    def ask(self, verb: str, *names: str) -> list[Running]:
        """One request. Raises ConnectionError when there is no supervisor."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            try:
                connection.connect(str(self.home.supervisor_socket))
            except OSError as error:
                raise ConnectionError("the supervisor does not run") from error
            connection.sendall(json.dumps({"do": verb, "names": names}).encode() + b"\n")
            reply: dict[str, Any] = json.loads(connection.makefile().readline() or "{}")
        return [Running(**process) for process in reply.get("processes", [])]

    def is_up(self) -> bool:
        try:
            self.ask("status")
        except ConnectionError:
            return False
        return True

    def ensure(self, specs: list[dict[str, Any]]) -> bool:
        """A supervisor that knows these processes, in the background. True when it had to be started."""
        write_file(self.home.processes, json.dumps(specs))
        if self.is_up():
            self.ask("load")
            return False
        self.clear_remnants()
        make_folder(self.home.runtime)
        home = self.home
        program = Path(__file__).with_name("supervisor.py")
        paths = [home.root, home.processes, home.supervisor_socket, home.pids, home.log]
        with open_log(home.log / "supervisor.log") as log:
            subprocess.Popen(
                [sys.executable, "-I", "-S", str(program), *map(str, paths)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
                cwd="/",
            )
        until = time.monotonic() + 10
        while not self.is_up():
            if time.monotonic() > until:
                raise ProcessFailed(f"the supervisor did not start; see {home.log}/supervisor.log")
            time.sleep(0.02)
        return True

    def clear_remnants(self, seconds: float = 20) -> None:
        """Waits for the children of a killed supervisor, which got their stop signals; kills those that stay."""
        try:
            known: dict[str, Any] = json.loads(self.home.pids.read_text())
        except (FileNotFoundError, ValueError):
            return
        if known.pop("boot_id") != boot_id():
            known = {}
        until = time.monotonic() + seconds
        while left := [pid for pid, started in known.values() if start_time(pid) == started]:
            if time.monotonic() > until:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.home.pids.unlink(missing_ok=True)

    def start(self, *names: str) -> None:
        self.ask("start", *names)

    def stop(self, *names: str, seconds: float = 90) -> None:
        """Stops these and waits until they have ended. Nothing to do when there is no supervisor."""
        try:
            self.ask("stop", *names)
            until = time.monotonic() + seconds
            while any(process.pid for process in self.ask("status") if process.name in names):
                if time.monotonic() > until:
                    raise ProcessFailed(f"{', '.join(names)} did not stop within {seconds:.0f} s")
                time.sleep(0.05)
        except ConnectionError:
            return

    def leave(self, seconds: float = 90) -> None:
        """Ends the supervisor, and with it whatever still runs."""
        with contextlib.suppress(ConnectionError):
            self.ask("leave")
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                self.ask("status")
                time.sleep(0.05)
        self.clear_remnants()

    def check(self, *names: str) -> None:
        """Raises ProcessFailed for one that ends again and again."""
        for process in self.ask("status"):
            if process.name in names and not process.pid and process.ends_in_a_row >= 2:
                log = (self.home.log / f"{process.name}.log").read_text(errors="replace").splitlines()
                raise ProcessFailed(f"{process.name} {process.last_end}:\n    " + "\n    ".join(log[-12:]))
