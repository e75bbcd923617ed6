"""Starts an emulator as a detached process: in its own session, confined, holding its home's lock.

The work is done by a few lines of shell around setsid(1) and setpriv(1), which every Debian has: forking a worker full
of threads is unsafe, and a Python in between would cost more time than all the rest of a start.
"""

import fcntl
import os
import subprocess
import time

from agent import faults, folders
from agent.emulators import Home, find
from agent.errors import Refused
from agent.jail import Confinement, prefix
from agent.processes import Process, tail

MAX_SECONDS_TO_BEGIN = 60.0  # on a host that is very busy

# Arguments: pid file, number of cgroups, their cgroup.procs files, then the command. The pid stays the same through
# exec, and so does the start time: both are written down before anything of the emulator has run. Without its signal,
# a file that has become too large is an error for the emulator, and not its end.
SCRIPT = """
set -e
pid_file=$1; cgroups=$2; shift 2
while [ "$cgroups" -gt 0 ]; do echo $$ > "$1"; cgroups=$((cgroups - 1)); shift; done
read -r stat < /proc/$$/stat
started=$(echo "${stat##*) }" | cut -d ' ' -f 20)
echo "$$ $started" > "$pid_file.new"
mv "$pid_file.new" "$pid_file"
echo 500 > /proc/$$/oom_score_adj 2>/dev/null || :
ulimit -c 0
trap '' XFSZ
exec "$@"
"""

faults.declare("spawn.before_spawn", "spawn.after_spawn")


def spawn(argv: list[str], home: Home, confinement: Confinement, descriptors: tuple[int, ...] = ()) -> Process:
    """Run `argv` for what is at `home`, detached from this process; it inherits `descriptors`.

    Raises Refused when it did not start.
    """
    lock = folders.open_file(home.alive, os.O_RDONLY | os.O_CREAT)
    try:
        _take(lock)
        home.pid.unlink(missing_ok=True)
        faults.reach("spawn.before_spawn")
        command = [
            *("setsid", "--fork", "sh", "-c", SCRIPT, "sh", os.fspath(home.pid)),
            *(str(len(confinement.cgroups)), *(f"{path}/cgroup.procs" for path in confinement.cgroups)),
            *prefix(confinement),
            *argv,
        ]
        with os.fdopen(folders.open_file(home.emulator_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
            subprocess.run(  # noqa: S603
                command,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock, *descriptors],
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )
        faults.reach("spawn.after_spawn")
    finally:
        os.close(lock)
    process = find(home, MAX_SECONDS_TO_BEGIN)
    if process is None:
        raise Refused(f"the emulator did not start: {tail(home.emulator_log, 600)}")
    return process


def _take(lock: int) -> None:
    """Take the lock for the emulator to inherit. Waits a moment for others who only test it."""
    for _ in range(50):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return
    raise Refused("an emulator of it is running already")
