"""Named fault points: places where a test kills the process or refuses the work.

`PILEUS_FAULT=kill:<name>` dies there as by kill -9; `refuse:<name>` raises `Refused` there. Every name is declared, so
that a loop in the tests reaches all of them and a point that no run reaches is a failure.
"""

import os
import signal

from agent.errors import Refused

POINTS: set[str] = set()


def declare(*names: str) -> None:
    """Add fault points: beside the code that reaches them, when its module is imported."""
    POINTS.update(names)


def reach(name: str) -> None:
    """Say that the fault point `name` is reached; dies or raises `Refused` there if a test asked for it."""
    if name not in POINTS:
        raise LookupError(f"{name} is not declared")
    trace = os.environ.get("PILEUS_FAULT_TRACE")
    if trace:
        with open(trace, "a") as file:
            file.write(name + "\n")
    wish = os.environ.get("PILEUS_FAULT", "")
    if wish == f"kill:{name}":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish == f"refuse:{name}":
        raise Refused(f"refused at the fault point {name}")
