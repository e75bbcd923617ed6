"""What a suspended machine leaves on this host: its memory and devices, in a directory beside its disk.

It is valid only until the guest runs again: after that the disk no longer matches the saved memory. So it is removed,
durably, before the guest runs.
"""

import shutil
from pathlib import Path

from agent import faults, jail
from agent.durability import sync_directory, sync_files
from agent.errors import Refused
from agent.system import MIN_FREE_BYTES
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Control, Power

CLONE = "clone"  # a file that says: what starts from here is a clone, with another identity

faults.declare("suspension.before_save", "suspension.before_rename", "suspension.before_forget")


def save(home: Home, control: Control, *, memory_mib: int, uid: int | None) -> None:
    """Save memory and devices of a paused machine, atomically. Raises Refused, NoAnswer or OSError."""
    forget(home)
    require_room(home, memory_mib)
    new = home.saved.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    jail.give(new, uid, 0o700)
    faults.reach("suspension.before_save")
    try:
        control.save(new)
        sync_files(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    faults.reach("suspension.before_rename")
    new.rename(home.saved)
    sync_directory(home.directory)


def require_room(home: Home, memory_mib: int) -> None:
    """Raises Refused."""
    free = shutil.disk_usage(home.directory).free
    if free < (memory_mib << 20) + MIN_FREE_BYTES:
        words = f"{free >> 20} MiB are free, its memory takes {memory_mib} and {MIN_FREE_BYTES >> 20} are kept free"
        raise Refused(f"the host's disk is too full for the machine's memory: {words}")


def found(home: Home) -> Path | None:
    """Where a machine was suspended, if it is."""
    return home.saved if home.saved.exists() else None


def forget(home: Home) -> None:
    """Remove the saved state: the guest runs again, or never will."""
    if home.saved.exists():
        old = home.saved.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        faults.reach("suspension.before_forget")
        home.saved.rename(old)
        sync_directory(home.directory)
        shutil.rmtree(old, ignore_errors=True)


def resume(home: Home, control: Control) -> None:
    """Let a paused guest run. Raises NoAnswer or OSError."""
    forget(home)
    if control.status().power == Power.PAUSED:
        control.resume()
