"""Finds out which accelerators work here: runs a tiny guest on each, with a timeout.

That /dev/kvm can be opened proves nothing: on some hosts the emulator aborts or the guest hangs, on others only the
agent's user has access. So the guest runs as machines do: as its own user, in the same jail. The result is kept on
disk as long as kernel, CPU model, QEMU's version and jail stay the same; a failure only for an hour, because the host
may have been busy.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent import system
from agent.jail import Confinement, prefix
from compute.agent.hypervisors.qemu import payload
from compute.agent.hypervisors.qemu.command_line import BOARDS, SANDBOX, Accelerator

# A guest that takes longer hangs; on an idle host it takes 0.2 s.
PATIENCE = {"tcg": 10.0, "kvm": 3.0}
# A guest needs a tenth of this, however busy the host is. On hosts whose KVM is itself emulated the tiny
# guest uses one to five CPU seconds, and a real one never boots.
PROCESSOR_SECONDS = {"tcg": 10, "kvm": 1}
FAILURE_IS_BELIEVED_SECONDS = 3600
BINARIES = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64", "riscv64": "qemu-system-riscv64"}
PAYLOADS: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "x86_64": (
        payload.x86_64,
        ["-device", "isa-serial,chardev=serial", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel"],
    ),
    "aarch64": (payload.aarch64, ["-serial", "chardev:serial", "-kernel"]),
    "riscv64": (payload.riscv64, ["-serial", "chardev:serial", "-bios"]),
}


@dataclass(frozen=True)
class Finding:
    """`problem` is None when a guest ran."""

    problem: str | None
    seconds: float
    at: float = field(default_factory=time.time)

    @property
    def is_doubtful(self) -> bool:
        return self.problem is not None and time.time() - self.at > FAILURE_IS_BELIEVED_SECONDS


def version(binary: str) -> str | None:
    """QEMU's version; None when the binary is not installed or does not run."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True, timeout=10)  # noqa: S603
        match = re.search(r"version (\S+)", answer.stdout)
        return match.group(1) if match else None
    return None


def known_devices(binary: str) -> frozenset[str]:
    """The devices that this QEMU can make: distributions leave some out. Empty when it does not say."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        argv = [binary, "-machine", "none", "-device", "help"]
        answer = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=10)  # noqa: S603
        return frozenset(re.findall(r'^name "([^"]+)"', answer.stdout, re.MULTILINE))
    return frozenset()


def run_guest(architecture: str, accelerator: Accelerator, confinement: Confinement) -> Finding:
    """Run the tiny guest once."""
    make, arguments = PAYLOADS[architecture]
    board, patience = BOARDS[architecture], PATIENCE[accelerator.kind]
    allowed = PROCESSOR_SECONDS[accelerator.kind]
    cpu = "host" if accelerator.kind == "kvm" else board.cpu_under_tcg
    began = time.monotonic()
    guest = os.memfd_create("guest")  # a file of no directory: nothing stays when the agent is killed here
    try:
        os.write(guest, make())
        limits = ["prlimit", f"--cpu={allowed}:{allowed + 5}", "--core=0", "--"]
        argv = [*limits, *prefix(confinement), accelerator.binary, "-nodefaults", "-no-user-config"]
        argv += ["-display", "none"]
        argv += ["-machine", board.machine, "-accel", accelerator.kind, "-cpu", cpu, "-m", "64M"]
        argv += ["-no-reboot", "-sandbox", SANDBOX]
        argv += ["-chardev", "stdio,id=serial,signal=off", *arguments, f"/proc/self/fd/{guest}"]
        done = subprocess.run(  # noqa: S603
            argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, pass_fds=[guest]
        )
    except subprocess.TimeoutExpired:
        return Finding(f"a guest hung for {patience:g} s", time.monotonic() - began)
    except OSError as error:
        return Finding(str(error), time.monotonic() - began)
    finally:
        os.close(guest)
    seconds = time.monotonic() - began
    if payload.TOKEN in done.stdout:
        return Finding(None, seconds)
    if done.returncode == -signal.SIGXCPU:
        return Finding(f"a guest used up {allowed} s of a processor: it is as slow as no guest should be", seconds)
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return Finding(words[-1][:300] if words else f"QEMU ended with status {done.returncode} and no guest ran", seconds)


class Probes:
    """The results, kept in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self, architecture: str, kind: str, qemu_version: str, confinement: Confinement) -> Finding | None:
        found = self._read().get(self._key(architecture, kind, qemu_version, confinement))
        return Finding(found["problem"], found["seconds"], found.get("at", 0.0)) if found else None

    def find(self, architecture: str, accelerator: Accelerator, qemu_version: str, confinement: Confinement) -> Finding:
        """The kept result if it is still valid, otherwise a new one."""
        known = self.known(architecture, accelerator.kind, qemu_version, confinement)
        if known and not known.is_doubtful:
            return known
        finding = run_guest(architecture, accelerator, confinement)
        kept = self._read()
        key = self._key(architecture, accelerator.kind, qemu_version, confinement)
        kept[key] = {"problem": finding.problem, "seconds": round(finding.seconds, 3), "at": finding.at}
        new = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):  # a full disk does not make the result wrong
            new.write_text(json.dumps(kept, indent=1))
            os.replace(new, self._path)
        return finding

    def _read(self) -> dict[str, dict[str, Any]]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self._path.read_text()))
        return {}

    @staticmethod
    def _key(architecture: str, kind: str, qemu_version: str, confinement: Confinement) -> str:
        jail = " ".join(prefix(replace(confinement, temporary=confinement.temporary[:1])))  # without this home's paths
        return " | ".join((architecture, kind, qemu_version, system.kernel(), system.cpu_model(), jail))
