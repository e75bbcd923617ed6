"""A machine's root disk: a qcow2 overlay over the host's read-only copy of its image, or an empty qcow2."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from agent import faults, folders
from agent.durability import sync_directory, sync_file
from agent.errors import Refused
from agent.system import MIN_FREE_BYTES
from compute.agent.hypervisors.base import Boot

GIB = 1 << 30
FORMATS = ("raw", "qcow2")

faults.declare("disk.before_create", "disk.before_rename")


def create(boot: Boot) -> None:
    """Make the root disk unless there is one: a machine's disk is never made twice. Raises Refused."""
    home = boot.home
    if folders.status(home.disk):
        return
    free = shutil.disk_usage(home.directory).free
    if free < MIN_FREE_BYTES:
        raise Refused(
            f"the host's disk is full: {free >> 20} MiB are free and {MIN_FREE_BYTES >> 20} MiB are kept free"
        )
    faults.reach("disk.before_create")
    new = home.disk.with_suffix(".new")
    new.unlink(missing_ok=True)
    command = ["qemu-img", "create", "-q", "-f", "qcow2"]
    base = boot.files.get("disk")
    if base:
        declared = next(file["format"] for file in boot.spec["image"]["files"] if file["role"] == "disk")
        if declared not in FORMATS:
            raise Refused(f"an image of the format {declared} cannot be a base")
        command += ["-b", os.fspath(base), "-F", declared]
    size = max(int(boot.spec["disk_gib"]) * GIB, virtual_size(base, declared) if base else 0)
    command += [os.fspath(new), str(size)]
    _run(command)
    sync_file(new)
    faults.reach("disk.before_rename")
    new.rename(home.disk)
    sync_directory(home.directory)


def virtual_size(path: Path, image_format: str) -> int:
    """What size a guest sees, in bytes, of an image whose format is known."""
    answer = _run(["qemu-img", "info", "--output=json", "-f", image_format, os.fspath(path)])
    return int(json.loads(answer)["virtual-size"])


def _run(command: list[str]) -> str:
    # The child dies with the worker: an abandoned attempt must not write on under the next one.
    wrapped = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    try:
        done = subprocess.run(wrapped, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"qemu-img: {error}") from error
    if done.returncode != 0:
        raise Refused(f"qemu-img: {done.stderr.strip()[-500:]}")
    return done.stdout
