"""Starts the processes of one machine, watches them, and starts again with growing pauses what ends by itself.

Standard library only, one thread, no import of the project: it runs for months in a few MiB. It is told what to do
over a Unix socket, one JSON line each way (`supervision.py` is the other end). Its children die with it
(PDEATHSIG), so killing it leaves nothing half-watched; virtual machines are never its children. Run by path:
`python -I -S supervisor.py HOME PROCESSES SOCKET PIDS LOG`.
"""

import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
STEADY_SECONDS = 60  # having run this long, an end counts as the first again
MAX_PAUSE = 30
LOG_BYTES = 8 * 2**20
LOGS_KEPT = 3
TICK_SECONDS = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot: together with the pid it identifies one process.

    None when there is none. A zombie with threads is none yet, as in `agent.processes`, which cannot be had here.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and int(fields[17]) <= 1 else int(fields[19])


def boot_id() -> str:
    """Differs after every reboot, which deals pids and start times anew."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Child:
    """One process of the table, wanted or not, running or not."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.popen: subprocess.Popen[bytes] | None = None
        self.wanted = False
        self.began = 0.0
        self.started = 0  # this run's start time, as /proc has it
        self.ends_in_a_row = 0
        self.start_at = 0.0
        self.kill_at: float | None = None
        self.last_end = ""

    @property
    def state(self) -> str:
        if self.popen:
            return "stopping" if self.kill_at is not None else "running"
        return "waiting" if self.wanted else "stopped"

    def start(self, log: Path) -> None:
        spec = self.spec
        stop_signal = signal.Signals[spec["stop_signal"]]
        # A stop asked for by someone who ran away with SIGKILL: the child goes the way it goes at `down`.
        arguments: dict[str, Any] = {"preexec_fn": lambda: LIBC.prctl(PR_SET_PDEATHSIG, stop_signal)}
        if spec.get("uid") is not None:
            arguments |= {"user": spec["uid"], "group": spec["gid"], "extra_groups": []}
        with (log / f"{spec['name']}.log").open("ab") as output:
            self.popen = subprocess.Popen(
                spec["argv"],
                env=spec["env"],
                cwd=spec["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o022,
                **arguments,
            )
        self.began = time.monotonic()
        self.started = start_time(self.popen.pid) or 0

    def stop(self) -> None:
        if self.popen and self.kill_at is None:
            self.kill_at = time.monotonic() + self.spec["stop_seconds"]
            self.popen.send_signal(signal.Signals[self.spec["stop_signal"]])

    def status(self) -> dict[str, Any]:
        return {
            "name": self.spec["name"],
            "state": self.state,
            "pid": self.popen.pid if self.popen else None,
            "seconds": time.monotonic() - self.began if self.popen else 0,
            "ends_in_a_row": self.ends_in_a_row,
            "last_end": self.last_end,
        }


class Supervisor:
    def __init__(self, home: Path, processes: Path, socket_path: Path, pids: Path, log: Path) -> None:
        self.home, self.processes, self.socket_path, self.pids, self.log = home, processes, socket_path, pids, log
        self.children: dict[str, Child] = {}
        self.leaving = False
        self.selector = selectors.DefaultSelector()
        self.load()

    def say(self, line: str) -> None:
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), line, flush=True)

    def load(self) -> None:
        """Reads the table. What runs keeps its old command until it is started again."""
        specs = json.loads(self.processes.read_text())
        for spec in specs:
            if spec["name"] in self.children:
                self.children[spec["name"]].spec = spec
            else:
                self.children[spec["name"]] = Child(spec)
        known = {spec["name"] for spec in specs}
        for name in [name for name, child in self.children.items() if name not in known and not child.popen]:
            del self.children[name]

    def run(self) -> None:
        wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.leave())
        listener = self.listen()
        self.selector.register(wake, selectors.EVENT_READ, "wake")
        self.selector.register(listener, selectors.EVENT_READ, "listener")
        self.say(f"supervisor {os.getpid()} for {self.home}")
        rotate_at = 0.0
        while not (self.leaving and not any(child.popen for child in self.children.values())):
            for key, _ in self.selector.select(TICK_SECONDS):
                if key.data == "wake":
                    os.read(wake, 4096)
                elif key.data == "listener":
                    self.answer(listener)
            self.reap()
            self.follow_wishes()
            if time.monotonic() >= rotate_at:
                rotate_at = time.monotonic() + 5
                self.rotate_logs()
        self.socket_path.unlink(missing_ok=True)
        self.pids.unlink(missing_ok=True)
        self.say("supervisor ends")

    def listen(self) -> socket.socket:
        self.socket_path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        listener.bind(str(self.socket_path))
        os.umask(old)
        listener.listen(8)
        return listener

    def answer(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(2)
            try:
                request = json.loads(connection.makefile().readline())
                reply = self.obey(request["do"], request.get("names") or list(self.children))
                connection.sendall(json.dumps(reply).encode() + b"\n")
            except (OSError, ValueError, KeyError) as error:
                self.say(f"a request failed: {error!r}")

    def obey(self, verb: str, names: list[str]) -> dict[str, Any]:
        chosen = [self.children[name] for name in names if name in self.children]
        if verb == "load":
            self.load()
        elif verb == "start":
            for child in chosen:
                child.wanted, child.start_at, child.ends_in_a_row = True, 0.0, 0
        elif verb == "stop":
            for child in chosen:
                child.wanted = False
        elif verb == "leave":
            self.leave()
        self.follow_wishes()
        return {"pid": os.getpid(), "processes": [child.status() for child in self.children.values()]}

    def leave(self) -> None:
        self.leaving = True
        for child in self.children.values():
            child.wanted = False

    def follow_wishes(self) -> None:
        """Starts what should run, ends what should not; what ignores its stop signal is killed after its grace.

        When all of it has to go, the order of the table counts: each waits for those that follow it there.
        """
        now = time.monotonic()
        for child in reversed(self.children.values()):
            if child.popen and not child.wanted:
                child.stop()
            if child.popen and child.kill_at is not None and now >= child.kill_at:
                self.say(f"{child.spec['name']} did not stop within {child.spec['stop_seconds']} s: killed")
                child.popen.kill()
                child.kill_at = now + 5
            if self.leaving and child.popen:
                break
        for child in self.children.values():
            if child.wanted and not child.popen and now >= child.start_at:
                try:
                    child.start(self.log)
                except OSError as error:
                    self.ended(child, f"could not start: {error}")
                    continue
                self.say(f"{child.spec['name']} started, pid {child.popen.pid if child.popen else '?'}")
                self.write_pids()

    def reap(self) -> None:
        for child in self.children.values():
            if child.popen and child.popen.poll() is not None:
                code = child.popen.returncode
                self.ended(child, f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}")

    def ended(self, child: Child, how: str) -> None:
        steady = time.monotonic() - child.began >= STEADY_SECONDS
        asked = child.kill_at is not None
        child.popen, child.kill_at, child.last_end = None, None, how
        child.ends_in_a_row = 1 if steady else child.ends_in_a_row + 1
        pause = 0.0 if asked else min(0.25 * 2 ** (child.ends_in_a_row - 1), MAX_PAUSE)
        child.start_at = time.monotonic() + pause
        self.say(f"{child.spec['name']} {how}" + (f"; again in {pause:g} s" if child.wanted else ""))
        self.write_pids()

    def write_pids(self) -> None:
        """The running processes, for the successor of a supervisor that was killed."""
        running: dict[str, Any] = {"boot_id": boot_id()}
        running |= {name: [child.popen.pid, child.started] for name, child in self.children.items() if child.popen}
        running["supervisor"] = [os.getpid(), start_time(os.getpid()) or 0]
        fresh = self.pids.with_name(self.pids.name + ".new")
        fresh.write_text(json.dumps(running))
        fresh.replace(self.pids)

    def rotate_logs(self) -> None:
        """Copies a log that has grown too long aside and empties it: its writers hold it open for appending."""
        for log in self.log.glob("*.log"):
            if log.stat().st_size <= LOG_BYTES:
                continue
            for number in range(LOGS_KEPT - 1, 0, -1):
                older = log.with_name(f"{log.name}.{number}")
                if older.exists():
                    older.replace(log.with_name(f"{log.name}.{number + 1}"))
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


if __name__ == "__main__":
    os.umask(0o077)  # its files and the logs that it opens are for nobody else; its children set their own
    Supervisor(*(Path(argument) for argument in sys.argv[1:6])).run()
