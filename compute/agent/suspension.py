"""What a suspended machine leaves on this host: its memory and devices, in a directory beside its disk.

It is valid only until the guest runs again: after that the disk no longer matches the saved memory. So it is removed,
durably, before the guest runs.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from agent import faults, folders
from agent.durability import sync_directory, sync_files
from agent.errors import Refused
from agent.system import MIN_FREE_BYTES
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Control, Power

MAX_DEVICES_MIB = 256  # saved by an emulator besides the guest's memory
CLONE = "clone"  # a marker file: what starts from here is a clone, with a new identity

faults.declare("suspension.before_save", "suspension.before_rename", "suspension.before_forget")


def save(home: Home, control: Control, *, memory_mib: int, uid: int | None) -> None:
    """Save memory and devices of a paused machine, atomically. Raises Refused, NoAnswer or OSError."""
    forget(home)
    require_room(home, memory_mib)
    new = home.saved.with_suffix(".new")
    folders.remove(new)
    folders.make_folder(new, 0o711)
    faults.reach("suspension.before_save")
    try:
        control.save(new, uid)
        require_sane(new, memory_mib)
        sync_files(new)
    except BaseException:
        folders.remove(new)
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


def max_bytes(memory_mib: int) -> int:
    """Of the largest file that an emulator leaves behind for a memory of that size."""
    return 2 * memory_mib + MAX_DEVICES_MIB << 20


def require_sane(saved: Path, memory_mib: int) -> None:
    """Raises Refused when an emulator has written more than a machine with so much memory can leave behind."""
    sizes = {name: status.st_size for name in folders.names(saved) if (status := folders.status(saved / name))}
    limit = max_bytes(memory_mib)
    if any(size > limit for size in sizes.values()):
        raise Refused(f"the emulator has written more than {limit >> 20} MiB for a memory of {memory_mib} MiB")


def found(home: Home) -> Path | None:
    """Where a machine was suspended, if it is. Older agents left that folder to the emulator's user."""
    if folders.status(home.saved) is None:
        return None
    folders.take_back(home.saved)
    return home.saved


def forget(home: Home) -> None:
    """Remove the saved state: the guest runs again, or never will."""
    if folders.status(home.saved):
        old = home.saved.with_suffix(".old")
        folders.remove(old)
        faults.reach("suspension.before_forget")
        home.saved.rename(old)
        sync_directory(home.directory)
        with suppress(OSError):  # the next time
            folders.remove(old)


def resume(home: Home, control: Control) -> None:
    """Let a paused guest run. Raises NoAnswer or OSError."""
    forget(home)
    if control.status().power == Power.PAUSED:
        control.resume()
