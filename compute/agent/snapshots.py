"""Snapshots with memory: what a machine's clones start from, kept in its home as long as its spec names them.

A clone starts like a suspended machine: with a copy of the disk, and with the memory of the snapshot itself, which is
never written to and so is shared by all clones. A file beside it marks that the clone has another identity.
"""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import structlog

from agent import faults, jail
from agent.durability import sync_directory, sync_file, sync_files
from agent.errors import NoAnswer, Refused
from agent.ledger import Entry
from compute.agent import suspension
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Control, Hypervisor, Power

log = structlog.get_logger()

CLONE_FILE_RANGE = 0x40049409  # FICLONE of ioctl_ficlonerange(2)

faults.declare("snapshots.before_save", "snapshots.before_rename", "disk.before_rename")


def keep_as_specified(home: Home, entry: Entry, hypervisor: Hypervisor, uid: int | None) -> dict[str, Any]:
    """Take the snapshot that the spec names, once, and drop all others. Returns facts for the report."""
    wish = entry.spec.get("snapshot")
    wanted = home.snapshot(wish) if wish else None
    for old in home.directory.glob(f"*{home.snapshot('*').name}"):
        if old != wanted:
            shutil.rmtree(old, ignore_errors=True)
    if wanted is None:
        return {}
    try:
        if not wanted.exists():
            _take(home, wanted, entry, hypervisor, uid)
    except (Refused, NoAnswer, OSError) as problem:  # the machine itself is as well as before
        log.warning("no snapshot", machine=entry.id, problem=str(problem))
        return {"snapshot_problem": str(problem)}
    return {"snapshot": wish}


def _take(home: Home, wanted: Path, entry: Entry, hypervisor: Hypervisor, uid: int | None) -> None:
    """Save memory and disk as of one moment, atomically. Raises Refused, NoAnswer or OSError."""
    new = wanted.with_name(f"new-{wanted.name}")
    shutil.rmtree(new, ignore_errors=True)
    faults.reach("snapshots.before_save")
    try:
        new.mkdir()
        saved = suspension.found(home)
        if saved and hypervisor.find(home) is None:
            for file in saved.iterdir():
                os.link(file, new / file.name)
            _copy(home.disk, new / home.disk.name)
        else:
            with hypervisor.control(home) as control, _paused(control):
                suspension.require_room(home, int(entry.spec["memory_mib"]))
                jail.give(new, uid, 0o700)
                control.save(new)
                _copy(home.disk, new / home.disk.name)
        for file in new.iterdir():  # clones have users of their own; their homes keep others away
            jail.give(file, 0 if uid is not None else None, 0o444)
        jail.give(new, 0 if uid is not None else None, 0o700)
        sync_files(new)
        faults.reach("snapshots.before_rename")
        new.rename(wanted)
        sync_directory(home.directory)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


@contextlib.contextmanager
def _paused(control: Control) -> Any:
    was = control.status().power
    if was == Power.OFF:
        raise Refused("the guest has switched itself off")
    if was == Power.RUNNING:
        control.pause()
    try:
        yield
    finally:
        if was == Power.RUNNING:
            control.resume()


def adopt(home: Home, source: Home, snapshot: str) -> None:
    """Give a machine without a disk the state of a snapshot, as if suspended there. Raises Refused or OSError."""
    kept = source.snapshot(snapshot)
    if not kept.is_dir():
        raise Refused("what it was to be cloned from is not on this host any more")
    new = home.saved.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o711)
    for file in kept.iterdir():
        if file.name != home.disk.name:
            os.link(file, new / file.name)
    (new / suspension.CLONE).touch()
    shutil.rmtree(home.saved, ignore_errors=True)
    new.rename(home.saved)
    disk = home.disk.with_suffix(".new")
    disk.unlink(missing_ok=True)
    _copy(kept / home.disk.name, disk)
    sync_file(disk)
    faults.reach("disk.before_rename")
    disk.rename(home.disk)  # last: it says that the rest is there
    sync_directory(home.directory)


def _copy(source: Path, target: Path) -> None:
    """A copy of a disk; where the filesystem can, one that shares all blocks until they are written to."""
    with source.open("rb") as reading, target.open("xb") as writing:
        try:
            fcntl.ioctl(writing, CLONE_FILE_RANGE, reading.fileno())
        except OSError:
            shutil.copyfileobj(reading, writing, 1 << 20)
