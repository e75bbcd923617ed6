# SPDX-License-Identifier: GPL-2.0-or-later
"""The process: one machine, described by one JSON document as its only argument.

    {"memory_mib": 256, "kernel": PATH, "initrds": [PATH…], "command_line": "…",
     "disks": [{"descriptor"|"path", "format": "raw"|"qcow2", "read_only": false, "base": another | null, "serial"}…],
     "nics": [{"mac": "52:54:…", "network": "isolated", "hostname"} | {"mac", "network": "descriptor", "descriptor"}…],
     "control": PATH, "serial": PATH, "console_log": PATH,
     "restore": DIRECTORY | null, "generation": "new"|"same", "paused": false,
     "exact_stops": what the self-test found here; it is done again when this is missing}

A machine that is restored has the same devices as the one that was saved; its disks and addresses may be others. It is
a clone, a new generation of the saved machine, unless it is the only machine that resumes from there ("same").

With `--self-test` instead: prints {"unicorn", "exact_stops"} and ends, with status 0 if the engine can be used here.
"""

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from . import confinement, engine
from .computer import MEMORY_MIB, Boot, Drive, Fittings, Nic, Unbootable
from .console import Console
from .control import Sockets
from .disk import open_disk
from .library import VERSION
from .machine import Machine
from .networks import plug
from .snapshot import Unusable

FAILED, CRASHED = 1, 70


def main(arguments: list[str]) -> int:
    try:
        if arguments == ["--self-test"]:
            return self_test()
        (document,) = arguments
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        description = json.loads(document)
        machine = build(description)
    except (KeyError, TypeError, ValueError, OSError, Unbootable, Unusable, engine.Unsuitable) as error:
        print(f"this machine cannot be built: {error or type(error).__name__}", file=sys.stderr)
        return FAILED
    return run(machine)


def self_test() -> int:
    try:
        exact = engine.stops_exactly()
    except engine.Unsuitable as error:
        print(error, file=sys.stderr)
        return FAILED
    print(json.dumps({"unicorn": VERSION, "exact_stops": exact}))
    return 0


def build(description: dict[str, Any]) -> Machine:
    """The machine with its sockets, switched on. Raises the errors that `main` names."""
    memory_mib = int(description["memory_mib"])
    if memory_mib not in MEMORY_MIB:
        raise ValueError(f"memory from {MEMORY_MIB.start} to {MEMORY_MIB.stop - 1} MiB, not {memory_mib}")
    confinement.limit(memory_mib)
    nics = tuple(Nic(_mac(nic["mac"]), plug(nic)) for nic in description.get("nics", []))
    drives = tuple(Drive(open_disk(disk), str(disk.get("serial") or "")) for disk in description.get("disks", []))
    exact_stops = description.get("exact_stops")
    if exact_stops is None:
        exact_stops = engine.stops_exactly()
    fittings = Fittings(memory_mib, drives, nics, exact_stops=bool(exact_stops))
    boot = None
    if description.get("kernel"):
        initrds = tuple(Path(path) for path in description.get("initrds", []))
        boot = Boot(Path(description["kernel"]), initrds, str(description.get("command_line") or ""))
    log = description.get("console_log")
    console = Console(Path(log) if log else None)
    machine = Machine(fittings, boot, console)
    if description.get("restore"):
        machine.restore(Path(description["restore"]), same_generation=description.get("generation") == "same")
        if not description.get("paused"):
            machine.resume()
    else:
        machine.start()
        if description.get("paused"):
            machine.pause()
    # Last, so that whoever finds the sockets finds a machine behind them.
    serial = description.get("serial")
    networks = [nic.network for nic in nics]
    sockets = Sockets(machine, networks, Path(description["control"]), Path(serial) if serial else None)
    machine.changed = sockets.changed
    confinement.forswear()
    sockets.start()
    return machine


def run(machine: Machine) -> int:
    """Runs until `quit` or SIGTERM, and returns 0. An internal error ends the process, with the reason on stderr."""
    threading.Thread(target=_quit_when_told, args=(machine,), name="signals", daemon=True).start()
    status = 0
    try:
        machine.run()
    except Exception:
        sys.excepthook(*sys.exc_info())
        status = CRASHED
    try:
        machine.close()
    except OSError as error:
        print(f"the disks were not written out: {error}", file=sys.stderr)
        status = CRASHED
    sys.stderr.flush()
    return status


def _quit_when_told(machine: Machine) -> None:
    """A handler would not run while the guest computes: the main thread is inside the engine."""
    signal.sigwait({signal.SIGTERM})
    machine.post(machine.quit)


def _mac(text: str) -> bytes:
    mac = bytes.fromhex(text.replace(":", ""))
    if len(mac) != 6 or mac[0] & 1:
        raise ValueError(f"{text!r} is no address for a NIC")
    return mac
