"""Snapshots with memory: what a machine's clones start from, kept in its home as long as its spec names them.

A clone starts like a suspended machine: with a copy of the disk, and with the memory of the snapshot itself, which is
never written to and so is shared by all clones. A file beside it marks that the clone has another identity.
"""

import contextlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import structlog

from agent import faults, folders
from agent.durability import sync_directory, sync_file, sync_files
from agent.entries import Entry
from agent.errors import YOU, NoAnswer, Refused, told
from agent.system import MIN_FREE_BYTES
from compute.agent import suspension
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Control, Hypervisor, Power

log = structlog.get_logger()

faults.declare("snapshots.before_save", "snapshots.before_rename", "disk.before_rename")


def keep_as_specified(
    home: Home,
    entry: Entry,
    hypervisor: Hypervisor,
    uid: int | None,
    *,
    pause: Callable[[Control], None],
    outlast: Callable[[Callable[[], None]], None],
) -> dict[str, Any]:
    """Take the snapshot that the spec names, once, and drop all others. Returns facts for the report. `pause`: pauses
    the guest; `outlast`: see Silence.outlast."""
    wish = entry.spec.get("snapshot")
    wanted = home.snapshot(wish) if wish else None
    for name in folders.names(home.directory):
        old = home.directory / name
        if fnmatch(name, f"*{home.snapshot('*').name}") and old != wanted:
            folders.remove(old)
    if wanted is None:
        return {}
    try:
        if folders.status(wanted) is None:
            outlast(lambda: _take(home, wanted, entry, hypervisor, uid, pause=pause))
    except (Refused, NoAnswer, OSError) as problem:  # the machine itself is as well as before
        log.warning("no snapshot", machine=entry.id, problem=str(problem))
        return told(problem, of="snapshot_")
    return {"snapshot": wish}


def _take(
    home: Home, wanted: Path, entry: Entry, hypervisor: Hypervisor, uid: int | None, *, pause: Callable[[Control], None]
) -> None:
    """Save memory and disk as of one moment, atomically. Raises Refused, NoAnswer or OSError."""
    new = wanted.with_name(f"new-{wanted.name}")
    folders.remove(new)
    faults.reach("snapshots.before_save")
    try:
        folders.make_folder(new, 0o700)
        saved = suspension.found(home)
        if saved and hypervisor.find(home) is None:
            _link_all(saved, new)
            _copy(home.disk, new / home.disk.name)
        else:
            memory_mib = int(entry.spec["memory_mib"])
            with hypervisor.control(home) as control, _paused(control, pause):
                suspension.require_room(home, memory_mib)
                control.save(new, uid)
                suspension.require_sane(new, memory_mib)
                _copy(home.disk, new / home.disk.name)
        for name in folders.names(new):  # clones have users of their own; their homes keep others away
            folders.give_file(new / name, 0 if uid is not None else None, 0o444)
        folders.make_folder(new, 0o700)
        sync_files(new)
        faults.reach("snapshots.before_rename")
        new.rename(wanted)
        sync_directory(home.directory)
    except BaseException:
        folders.remove(new)
        raise


@contextlib.contextmanager
def _paused(control: Control, pause: Callable[[Control], None]) -> Iterator[None]:
    was = control.status().power
    if was == Power.OFF:
        raise Refused("the guest has switched itself off", fix_by=YOU)
    if was == Power.RUNNING:
        pause(control)
    try:
        yield
    finally:
        if was == Power.RUNNING:
            control.resume()


def adopt(home: Home, source: Home, snapshot: str) -> None:
    """Give a machine without a disk the state of a snapshot, as if suspended there. Raises Refused or OSError."""
    kept = source.snapshot(snapshot)
    if folders.status(kept) is None:
        raise Refused("what it was to be cloned from is not on this host any more", fix_by=YOU)
    new = home.saved.with_suffix(".new")
    folders.remove(new)
    folders.make_folder(new, 0o711)
    _link_all(kept, new, but=home.disk.name)
    folders.create_file(new / suspension.CLONE).close()
    folders.remove(home.saved)
    new.rename(home.saved)
    disk = home.disk.with_suffix(".new")
    disk.unlink(missing_ok=True)
    _copy(kept / home.disk.name, disk)
    sync_file(disk)
    faults.reach("disk.before_rename")
    disk.rename(home.disk)  # last: it says that the rest is there
    sync_directory(home.directory)


def _link_all(source: Path, target: Path, but: str = "") -> None:
    for name in folders.names(source):
        if name != but:
            folders.link_file(source / name, target / name)


def _copy(source: Path, target: Path) -> None:
    folders.copy_file(source, target, min_free=MIN_FREE_BYTES)
