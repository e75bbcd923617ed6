"""Named fault points: places where a test kills the process or refuses the work.

`PILEUS_FAULT=kill:<name>` dies there as by kill -9; `refuse:<name>` raises `Refused` there. Every name is listed in
`POINTS`, so that a loop in the tests reaches all of them and a point that no run reaches is a failure.
"""

import os
import signal

from agent.errors import Refused

POINTS = frozenset(
    {
        "cache.before_rename",
        "disk.before_create",
        "disk.before_rename",
        "launch.before_spawn",
        "launch.after_spawn",
        "machine.before_report",
        "machine.ensure_gone.after_kill",
        "machine.ensure_gone.after_erase",
        "machine.ensure_gone.before_kill",
        "machine.ensure_paused.before_pause",
        "machine.ensure_running.after_start",
        "machine.ensure_running.before_start",
        "machine.ensure_stopped.after_button",
        "machine.ensure_stopped.before_button",
        "machine.ensure_stopped.before_quit",
        "machine.ensure_suspended.before_quit",
        "machine.obey.after_ledger",
        "machine.obey.before_ledger",
        "machine.reboot.after_reset",
        "machine.reboot.before_reset",
        "node.after_claim",
        "node.after_report",
        "snapshots.before_rename",
        "snapshots.before_save",
        "suspension.before_forget",
        "suspension.before_rename",
        "suspension.before_save",
        "upkeep.interrupt.after_quit",
        "upkeep.interrupt.before_quit",
        "upkeep.revive.after_start",
    }
)


def reach(name: str) -> None:
    """Say that the fault point `name` is reached; dies or raises `Refused` there if a test asked for it."""
    if name not in POINTS:
        raise LookupError(f"{name} is not in faults.POINTS")
    trace = os.environ.get("PILEUS_FAULT_TRACE")
    if trace:
        with open(trace, "a") as file:
            file.write(name + "\n")
    wish = os.environ.get("PILEUS_FAULT", "")
    if wish == f"kill:{name}":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == f"refuse:{name}":
        raise Refused(f"refused at the fault point {name}")
