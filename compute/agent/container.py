"""The first process of a container that is a host: `python -m compute.agent.container pileus-agent worker`.

It keeps the worker running, so that a worker that ends takes no machine with it: a container lives as long as its
first process. Machines become its children when their worker ends; it buries them. Told to stop, it stops the worker
and then switches the machines off.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
STEADY_SECONDS = 60
LONGEST_PAUSE = 15.0
WORKER_SECONDS = 25.0
SWITCH_OFF = ("pileus-agent", "stop-all", "--grace", "25")


class FirstProcess:
    def __init__(self, command: list[str], at_the_end: tuple[str, ...] = SWITCH_OFF) -> None:
        self.command, self.at_the_end = command, at_the_end
        self.leaving = False

    def run(self) -> int:
        """Returns when it was told to stop and everything has ended."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "leaving", True))
        pause = 0.5
        while not self.leaving:
            began = time.monotonic()
            worker = subprocess.Popen(self.command, start_new_session=True)
            self._watch(worker)
            if self.leaving:
                self._end(worker)
                break
            pause = 0.5 if time.monotonic() - began > STEADY_SECONDS else min(pause * 2, LONGEST_PAUSE)
            print(f"{self.command[0]} ended with status {worker.returncode}; again in {pause:g} s", flush=True)
            self._rest(pause)
        return subprocess.run(self.at_the_end, check=False).returncode

    def _watch(self, worker: "subprocess.Popen[bytes]") -> None:
        while not self.leaving and worker.poll() is None:
            self._bury_orphans(worker.pid)
            time.sleep(0.2)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.leaving and time.monotonic() < until:
            self._bury_orphans(None)
            time.sleep(0.2)

    @staticmethod
    def _bury_orphans(worker: int | None) -> None:
        """Take leave of ended children that are not the worker: emulators, whose parent had ended before them."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid == worker:
                return
            os.waitpid(ended.si_pid, 0)

    @staticmethod
    def _end(worker: "subprocess.Popen[bytes]") -> None:
        worker.terminate()
        try:
            worker.wait(WORKER_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    sys.exit(FirstProcess(sys.argv[1:]).run())
