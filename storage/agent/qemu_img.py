"""Command lines of qemu-img, as pure functions, and running one.

Formats are always named, and nothing that a file's header says is followed: a machine's emulator can write the header
of its active layer, and may have been taken over by its guest.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from agent.errors import Refused

SECONDS = 60
QCOW2, RAW = "qcow2", "raw"


def is_there() -> bool:
    return shutil.which("qemu-img") is not None


def create(path: Path, size: int, *, below: Path | None = None, below_format: str = QCOW2) -> list[str]:
    """Make an empty qcow2 of this many bytes, over another file or nothing. What is below is not opened (-u)."""
    command = ["qemu-img", "create", "-q", "-f", QCOW2]
    if below is not None:
        command += ["-u", "-b", os.fspath(below), "-F", below_format]
    return [*command, os.fspath(path), str(size)]


def resize(path: Path, size: int) -> list[str]:
    """Grow a qcow2 to this many bytes, whatever it says that it lies on."""
    return ["qemu-img", "resize", "-q", _alone(path), str(size)]


def rebase(path: Path, below: Path, below_format: str) -> list[str]:
    """Have the header of a qcow2 name another file, whatever it names by now. Neither is opened (-u)."""
    return ["qemu-img", "rebase", "-q", "-u", "-b", os.fspath(below), "-F", below_format, _alone(path)]


def _alone(path: Path) -> str:
    """A qcow2 without what its header says that it lies on."""
    node = {"driver": QCOW2, "file": {"driver": "file", "filename": os.fspath(path)}, "backing": None}
    return "json:" + json.dumps(node)


def run(command: list[str]) -> None:
    """Raises Refused with the words of qemu-img."""
    # The child dies with the worker: an abandoned attempt must not write on under the next one.
    wrapped = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603
            wrapped, check=False, capture_output=True, text=True, timeout=SECONDS, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"qemu-img: {error}") from error
    if done.returncode != 0:
        words = done.stderr.strip()[-500:]
        if "No space left on device" in words:
            words = "the host's disk is full"
        raise Refused(f"qemu-img: {words}")
