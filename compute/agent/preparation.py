"""Prepares the start of a machine's emulator: its home, user, cgroups, disks and seed."""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from agent import faults, folders, jail, system
from agent.durability import sync_directory, write_secret
from agent.entries import Entry
from agent.jail import Jail
from agent.ledger import Ledger
from compute.agent import disks, file_limit, host_keys, nics, nocloud, snapshots
from compute.agent.disks import Fetch, Layers
from compute.agent.homes import Home, Homes
from compute.agent.hypervisors.base import Boot, Hypervisor
from compute.agent.nics import Plugs
from compute.agent.records import Records
from storage import uefi
from storage.agent.image_cache import ImageCache

faults.declare("machine.take_in.before_rename")


@dataclass(frozen=True)
class MachineTools:
    """What every machine of a host is worked on with."""

    homes: Homes
    ledger: Ledger
    records: Records
    images: ImageCache
    layers: Layers
    hypervisors: dict[str, Hypervisor]
    plugs: Plugs
    ask_guest_soon: Callable[[str], None]  # of a machine, see guests.py
    jail: Jail = field(default_factory=Jail)
    boot_slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(max(1, system.vcpus())))


def begin(entry: Entry, home: Home, homes: Homes) -> None:
    """Make what the disk needs: the host key, and the state of a clone. Raises Refused or OSError."""
    folders.make_folder(home.directory, 0o710)
    clone = entry.spec.get("clone")
    # Guests that are older than host keys made by the host generate their own, and so do their clones.
    if not clone or folders.status(homes.of(clone["machine"]).host_key):
        write_secret(home.host_key, host_keys.make().private)
    if clone:
        snapshots.adopt(home, homes.of(clone["machine"]), clone["snapshot"])


def take_in(machine_id: str, transfer_id: str, home: Home, homes: Homes) -> None:
    """Take over what has come from another host: the disk last, as it says that the rest is there. Raises OSError."""
    for name, path in _moving(home).items():
        brought = homes.brought(machine_id, transfer_id, name)
        if brought is None or folders.status(path):
            continue
        folders.make_folder(home.directory, 0o710)
        faults.reach("machine.take_in.before_rename")
        brought.rename(path)
        sync_directory(home.directory)


def find_file(name: str, home: Home) -> Path | None:
    """One of the files with which a machine goes to another host, if it has that."""
    path = _moving(home).get(name)
    return path if path and folders.status(path) else None


def _moving(home: Home) -> dict[str, Path]:
    """What moves of a machine, beside its volumes, by the names that the control plane gives it; the disk is last."""
    return {"host-key": home.host_key, uefi.ROLE: home.variables, "disk": home.disk}


def prepare(
    entry: Entry, home: Home, *, fetch: Fetch, hypervisor: Hypervisor, tools: MachineTools, undo: ExitStack
) -> Boot:
    """Make what is missing. `fetch`: where files of images are. `undo` collects what to undo if the start fails.

    Raises Refused or OSError.
    """
    files = {file["role"]: fetch(file) for file in entry.spec["image"]["files"]}
    uid = tools.records.assign_uid(entry.id, jail.first_uid(), jail.UIDS) if tools.jail.uid else None
    folders.make_folder(home.directory, 0o710, gid=uid)
    folders.remove(home.runtime)
    folders.make_folder(home.runtime, 0o700, uid=uid, gid=uid)
    cgroups = _cgroups(entry, hypervisor, tools, undo)
    hypervisor.check(entry.spec, files)
    disks.make_root(entry.spec, home, fetch)
    disks.grow_root(entry.spec, home)
    disks.grow_volumes(entry.spec, tools.layers)
    home.seed.unlink(missing_ok=True)
    seed = nocloud.files(entry.spec["seed"], nics.of(entry.spec), host_keys.read(home.host_key))
    with folders.create_file(home.seed) as file:
        file.write(nocloud.iso(seed))
    os.close(folders.open_file(home.console_log, os.O_RDONLY | os.O_CREAT))
    # The emulator's user gets at the machine's own files, and at nothing else.
    for path, mode in ((home.disk, 0o600), (home.console_log, 0o600), (home.seed, 0o400)):
        if folders.status(path):
            folders.give_file(path, uid, mode)
    parts = disks.of(entry.spec, home, tools.layers, fetch)
    file_bytes = file_limit.needed(entry.spec, parts, home)
    confinement = tools.jail.confine(uid, hypervisor.groups(), cgroups, file_bytes)
    return Boot(entry.spec, home, files, confinement, (*parts, *disks.cdroms(entry.spec, fetch)))


def close_runtime(home: Home, uid: int | None) -> None:
    """Take the socket directory away from the emulator, which has opened all of its sockets: a compromised emulator
    could otherwise replace them by another machine's."""
    if uid is not None:
        folders.make_folder(home.runtime, 0o710, gid=uid)


def _cgroups(entry: Entry, hypervisor: Hypervisor, tools: MachineTools, undo: ExitStack) -> tuple[Path, ...]:
    if tools.jail.cgroup is None:
        return ()
    undo.callback(jail.remove_cgroups, tools.jail.cgroup, entry.id)
    vcpus = int(entry.spec["vcpus"])
    limits = jail.Limits(
        memory_mib=int(entry.spec["memory_mib"]) + hypervisor.overhead_mib(entry.spec),
        cpus=vcpus + 0.5,  # the emulator's own threads work beside the guest's processors
        pids=vcpus + 128,
    )
    return jail.make_cgroups(tools.jail.cgroup, entry.id, limits)
