"""The first process of a container that is a host: `python -m agent.container "pileus-agent worker" …`.

It keeps each of these commands running. A container ends with its first process, so a worker that ended would take the
machines with it. Machines become children of this process when their worker ends; it reaps them. When it is told to
stop, it stops the commands and then switches the machines off. They begin when this host has joined a cloud.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.paths import Paths

PR_SET_CHILD_SUBREAPER = 36
STEADY_SECONDS = 60
MIN_PAUSE, MAX_PAUSE = 0.5, 15.0
MAX_SECONDS_TO_END = 25.0
CGROUPS = Path("/sys/fs/cgroup")
SWITCH_OFF = ("pileus-agent", "stop-all", "--grace", "25")
NOT_JOINED = "This host waits to join a cloud: pileus-agent join URL TOKEN (a token: Admin, Hosts, Join a host)."


class Kept:
    """A command that is restarted when it ends, after longer and longer pauses."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self._pause = MIN_PAUSE
        self._began = self._again_at = 0.0

    def look(self) -> None:
        """Start it when it is time."""
        now = time.monotonic()
        if self.process is None and now >= self._again_at:
            self.process, self._began = subprocess.Popen(self.command, start_new_session=True), now
        elif self.process is not None and self.process.poll() is not None:
            steady = now - self._began > STEADY_SECONDS
            self._pause = MIN_PAUSE if steady else min(self._pause * 2, MAX_PAUSE)
            self._again_at = now + self._pause
            ended = f"{shlex.join(self.command)} ended with status {self.process.returncode}"
            print(f"{ended}; again in {self._pause:g} s", flush=True)
            self.process = None

    def end(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(MAX_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class FirstProcess:
    """`has_joined` is asked until it is so; until then no command runs."""

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        at_the_end: Sequence[str] = SWITCH_OFF,
        has_joined: Callable[[], bool] = lambda: True,
    ) -> None:
        self.kept = [Kept(command) for command in commands]
        self.at_the_end = at_the_end
        self.has_joined = has_joined
        self.leaving = False

    def run(self) -> int:
        """Returns when it was told to stop and everything has ended."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "leaving", True))
        joined = self.has_joined()
        if not joined:
            print(NOT_JOINED, flush=True)
        while not self.leaving:
            joined = joined or self.has_joined()
            for kept in self.kept if joined else ():
                kept.look()
            self._reap_orphans()
            time.sleep(0.2)
        for kept in self.kept:
            kept.end()
        return subprocess.run(self.at_the_end, check=False).returncode

    def _reap_orphans(self) -> None:
        """Reap children that this process did not start: emulators whose worker ended before them."""
        own = {kept.process.pid for kept in self.kept if kept.process}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, 0)


def leave_root_cgroup(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> None:
    """Move this process into a leaf of the container's own group, where there is one that it may change (cgroup v2).

    The kernel gives controllers to the children of a group only when no process is in the group itself; without this
    no machine could get a cgroup in a privileged container.
    """
    try:
        if own.read_text().strip() != "0::/" or not (cgroups / "cgroup.controllers").exists():
            return  # version 1, or not a cgroup namespace of our own
        leaf = cgroups / "first-process"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        print(f"the container's cgroup stays as it is: {error}", flush=True)


if __name__ == "__main__":
    leave_root_cgroup()
    membership = Paths.from_environment().membership
    sys.exit(FirstProcess([shlex.split(command) for command in sys.argv[1:]], has_joined=membership.exists).run())
