"""The embedded emulator: a riscv64 computer in Python around the Unicorn engine, for hosts that have nothing but pip.

This side only describes machines, starts their processes and talks to them; the computer itself is in `board/`, a
program of its own under a licence of its own. One vCPU, riscv64, no graphics, and no security boundary: a guest that
breaks out of the engine controls its process, which is confined like every emulator. So it is offered in embedded mode,
and elsewhere only with `PILEUS_UNICORN=1`, which says that all tenants are trusted.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from agent import emulators
from agent.errors import YOU, NoAnswer, Refused
from agent.jail import Jail
from agent.paths import Paths
from agent.processes import Process
from agent.spawn import spawn
from compute.agent import sockets
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Boot, Control, Counters
from compute.agent.hypervisors.unicorn import control
from compute.agent.hypervisors.unicorn.description import ARCHITECTURE, MEMORY_MIB, describe
from compute.agent.hypervisors.unicorn.program import Program

SECONDS_TO_START = 20.0
INTERPRETER_MIB = 96  # Python, the engine and its tables, buffers
TRANSLATION_CACHE_MIB = 64


class Unicorn:
    """`hypervisors.base.Hypervisor` for the embedded emulator."""

    name = "unicorn"
    takes_headers = False

    def __init__(self, paths: Paths, jail: Jail) -> None:
        self._program = Program(paths, jail)

    def probe(self) -> dict[str, Any] | None:
        if not _is_wanted():
            return None
        found = self._program.find()
        if found is None or found.problem:
            return None
        accelerator = {"accelerator": "tcg", "kvm": "the embedded emulator has no use for it"}
        return {
            "version": found.version,
            "architectures": {ARCHITECTURE: accelerator},
            "exact_stops": found.exact_stops,
            "vcpus": 1,
            "memory_mib": [MEMORY_MIB.start, MEMORY_MIB.stop - 1],
            "graphics": False,
            "security_boundary": False,
            "verbs": ["pause", "suspend", "clone"],
        }

    def probe_accelerators(self) -> bool:
        return False

    def overhead_mib(self, spec: dict[str, Any]) -> int:
        # During a reset there are two engines for a moment; the rest is for page cache.
        return INTERPRETER_MIB + 2 * TRANSLATION_CACHE_MIB + 64

    def groups(self) -> tuple[int, ...]:
        return ()

    def accelerator(self, spec: dict[str, Any]) -> str:
        if spec["architecture"] != ARCHITECTURE:
            raise Refused(f"the embedded emulator runs {ARCHITECTURE} only, not {spec['architecture']}", fix_by=YOU)
        return "tcg"

    def check(self, spec: dict[str, Any], files: Mapping[str, Path]) -> None:
        self.accelerator(spec)
        if int(spec["vcpus"]) != 1:
            raise Refused(f"the embedded emulator has one vCPU, not {spec['vcpus']}", fix_by=YOU)
        if int(spec["memory_mib"]) not in MEMORY_MIB:
            room = f"{MEMORY_MIB.start} to {MEMORY_MIB.stop - 1} MiB"
            raise Refused(f"the embedded emulator has {room} of memory, not {spec['memory_mib']}", fix_by=YOU)
        if "kernel" not in files:
            raise Refused("the embedded emulator has no firmware: the image needs a kernel file", fix_by=YOU)

    def start(self, boot: Boot) -> Process:
        document = describe(boot, exact_stops=self._program.exact_stops)
        argv = [sys.executable, "-I", os.fspath(self._program.install()), json.dumps(document)]
        return spawn(argv, boot.home, boot.confinement, boot.descriptors)

    def find(self, home: Home) -> Process | None:
        return emulators.find(home)

    def control(self, home: Home) -> AbstractContextManager[Control]:
        self._await_socket(home)
        return control.connect(home)

    def events(self, home: Home) -> socket.socket | None:
        self._await_socket(home)
        return control.events(home)

    def counters(self, home: Home) -> Counters:
        return Counters()  # its board has no counters

    @staticmethod
    def _await_socket(home: Home) -> None:
        """Waits until the guest runs and the control socket exists. Raises NoAnswer."""
        deadline = time.monotonic() + SECONDS_TO_START
        while not sockets.exists(home.control_socket):
            process = emulators.find(home, patience=0)
            if process is None or time.monotonic() > deadline:
                raise NoAnswer("the embedded emulator has no control socket")
            with contextlib.suppress(OSError):
                process.wait(0.005)


def _is_wanted() -> bool:
    return "1" in (os.environ.get("PILEUS_EMBEDDED"), os.environ.get("PILEUS_UNICORN"))
