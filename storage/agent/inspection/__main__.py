"""Inspection as a program of its own: `python -m storage.agent.inspection FILE FORMAT|- VIRTUAL_BYTES`.

Prints what was found as JSON, or {"unfit": why not}.
"""

import dataclasses
import json
import os
import sys

from storage.agent.inspection.common import Limits, Unfit, Window
from storage.agent.inspection.inspector import inspect


def main(path: str, declared: str, virtual_bytes: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        found = inspect(Window.of(handle), None if declared == "-" else declared, Limits(int(virtual_bytes)))
        print(json.dumps(dataclasses.asdict(found)))
    except Unfit as problem:
        print(json.dumps({"unfit": str(problem)}))


main(*sys.argv[1:])
