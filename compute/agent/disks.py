"""A machine's disks as ready parts: existing, open files. A hypervisor only plugs them in.

The disk in slot 0 is the one that the guest boots from. A disk is a chain of layers: only the last one is written to.
Emulators get layers as open descriptors and are told each one's format, so nothing that stands in a file decides which
other file is opened.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Protocol

from agent import faults, folders
from agent.durability import sync_directory
from agent.errors import NOBODY, Refused
from agent.system import MIN_FREE_BYTES
from compute.agent.homes import Home
from storage.agent import qcow2
from storage.agent.fences import Fences, Share

GIB = 1 << 30
BASE = "base"  # the name of the layer below a root disk: the image's own

CD = "cd"  # what the names of its layers begin with

faults.declare(
    "disk.before_create", "disk.before_rename", "machine.grow_disk.before_resize", "machine.grow_disk.after_resize"
)


class Remote(Protocol):
    """What is not on this host: see `storage.agent.nbd`."""

    @property
    def keeps(self) -> str | None: ...

    def connect(self, *, read_only: bool) -> int: ...

    def keep(self) -> bool: ...


@dataclass(frozen=True)
class Layer:
    """`name`: unique among a machine's layers, at most 26 characters; `format`: raw or qcow2; `descriptor`: of the open
    file, while it is plugged in. `remote`: where it is if it is no file; then `descriptor` is of a connection (NBD).
    """

    name: str
    path: Path
    format: str
    descriptor: int | None = None
    remote: Remote | None = None


@dataclass(frozen=True)
class Limits:
    """What a guest may do with a disk. None: as much as it can."""

    iops: int | None = None
    bytes_per_second: int | None = None


@dataclass(frozen=True)
class Disk:
    """`layers`: the base first, the active one last. `serial`: at most 20 characters, which the guest sees.
    `size_bytes`: what it grows to when it is smaller; 0: as its layers say."""

    slot: int
    serial: str
    layers: tuple[Layer, ...]
    read_only: bool = False
    size_bytes: int = 0
    limits: Limits = Limits()
    is_cdrom: bool = False
    cd_bus: str = ""  # of a CD drive: "scsi", or "" for SATA or IDE

    @property
    def name(self) -> str:
        """Its name in guests with virtio, if no slot before it is empty."""
        return CD if self.is_cdrom else f"vd{ascii_lowercase[self.slot]}"

    def writes(self, layer: Layer) -> bool:
        """Whether this layer is written to."""
        return layer is self.layers[-1] and not self.read_only


class Layers(Protocol):
    """The files of volumes on this host."""

    fences: Fences

    def remote(self, disk: dict[str, Any], image: str, holder: str = "") -> Remote: ...

    def served(self, place: dict[str, Any], holder: str = "") -> Remote: ...

    def silent(self, holder: str) -> Sequence[object]: ...

    def cut_off(self, holder: str, layer: str = "") -> bool: ...

    def are_served(self, images: Iterable[str]) -> bool: ...

    def end_servers(self, holder: str, *, but_for: Iterable[str] = ()) -> None: ...

    def path(self, layer_id: str) -> Path: ...

    def format_of(self, layer_id: str) -> str: ...

    def grow(self, layer_id: str, size: int) -> None: ...

    def sync(self, layer_id: str, pool: str) -> None: ...


Fetch = Callable[[dict[str, Any]], Path]
"""Where a file of an image is on this host: {"sha256", "size", …}. Raises Refused."""


def of(spec: dict[str, Any], home: Home, layers: Layers, fetch: Fetch) -> tuple[Disk, ...]:
    """Those of the spec: the root disk, unless it boots from a volume, and the volumes. Raises Refused."""
    volumes = tuple(_volume(volume, spec["id"], layers, fetch) for volume in spec.get("volumes") or ())
    return volumes if boots_from_volume(spec) else (_root(spec, home, fetch), *volumes)


def boots_from_volume(spec: dict[str, Any]) -> bool:
    return any(volume["slot"] == 0 for volume in spec.get("volumes") or ())


def _root(spec: dict[str, Any], home: Home, fetch: Fetch) -> Disk:
    """An overlay over the image's own disk where it has one."""
    image = _disk_of_image(spec)
    base = (Layer(BASE, fetch(image), image["format"]),) if image else ()
    return Disk(slot=0, serial=spec["id"][:20], layers=(*base, Layer("vda", home.disk, "qcow2")))


def _disk_of_image(spec: dict[str, Any]) -> dict[str, Any] | None:
    return next((file for file in spec["image"]["files"] if file["role"] == "disk"), None)


def _volume(volume: dict[str, Any], machine: str, layers: Layers, fetch: Fetch) -> Disk:
    limits = volume.get("limits") or {}
    disk = Disk(
        slot=int(volume["slot"]),
        serial=volume["serial"],
        layers=(),
        read_only=bool(volume["read_only"]),
        size_bytes=int(volume["size_bytes"]),
        limits=Limits(limits.get("iops"), limits.get("bytes_per_second")),
    )
    if volume.get("ceph"):
        name = remote_name(volume)
        remote = layers.remote(volume, name, machine)
        return replace(disk, layers=(Layer(layer_name(disk, name), Path(name), "raw", remote=remote),))
    if "served" in volume:
        name = remote_name(volume)
        if volume["served"] is None:
            raise Refused(f"the storage host of a volume does not serve it yet ({volume['id']})", fix_by=NOBODY)
        remote = layers.served(volume["served"], machine)
        return replace(disk, layers=(Layer(layer_name(disk, name), Path(name), "raw", remote=remote),))
    image = volume.get("base_image")
    base = (Layer(f"{disk.name}-base", fetch(image), image["format"]),) if image else ()
    chain = tuple(Layer(layer_name(disk, each), layers.path(each), layers.format_of(each)) for each in volume["chain"])
    return replace(disk, layers=(*base, *chain))


def cdroms(spec: dict[str, Any], fetch: Fetch) -> tuple[Disk, ...]:
    """The CD in its drive, if there is one. Raises Refused."""
    file = _cd(spec)
    if file is None:
        return ()
    layer = Layer(f"{CD}-{file['sha256'][:20]}", fetch(file), file["format"])
    return (Disk(slot=0, serial="", layers=(layer,), read_only=True, is_cdrom=True, cd_bus=spec.get("cd_bus", "")),)


def cd_in(spec: dict[str, Any]) -> str | None:
    """The SHA-256 of the CD in its drive."""
    file = _cd(spec)
    return str(file["sha256"]) if file else None


def _cd(spec: dict[str, Any]) -> dict[str, Any] | None:
    return next((file for file in spec["image"]["files"] if file["role"] == "cdrom"), None)


def layer_name(disk: Disk, layer_id: str) -> str:
    """Two volumes of a machine may lie on the same layer."""
    return f"{disk.name}-{uuid.UUID(layer_id).hex[:20]}"


def is_remote(volume: dict[str, Any]) -> bool:
    """Whether a volume of a spec is no file on this host, or in a folder of it."""
    return bool(volume.get("ceph")) or "served" in volume


def remote_name(volume: dict[str, Any]) -> str:
    """Of the image in Ceph, or of what a storage host offers."""
    return str(volume.get("rbd") or volume["chain"][-1])  # an older control plane names no images


def images(disks: Iterable[Disk]) -> set[str]:
    """The names of those that are no files on this host."""
    return {layer.path.name for disk in disks for layer in disk.layers if layer.remote}


def facts(spec: dict[str, Any]) -> dict[str, Any]:
    """What a report says of the volumes that are plugged in, by their ids."""
    return {
        volume["id"]: {"slot": volume["slot"], "active": volume["chain"][-1], "size_bytes": volume["size_bytes"]}
        | {name: volume[name] for name in ("pool", "tree", "term") if volume.get("pool")}
        for volume in spec.get("volumes") or ()
    }


def shares(volumes: Iterable[dict[str, Any]]) -> list[Share]:
    """What is in shared folders, of volumes as specs and facts have them."""
    return [share for share in map(Share.of, volumes) if share]


def make_root(spec: dict[str, Any], home: Home, fetch: Fetch) -> None:
    """Make the root disk unless there is one: a machine's disk is never made twice. Raises Refused or OSError."""
    if boots_from_volume(spec) or folders.status(home.disk):
        return
    require_room(home)
    faults.reach("disk.before_create")
    new = home.disk.with_suffix(".new")
    new.unlink(missing_ok=True)
    size = int(spec["disk_gib"]) * GIB
    image = _disk_of_image(spec)
    if image:
        base = fetch(image)
        qcow2.create(new, max(size, qcow2.virtual_size(base, image["format"])), base, image["format"])
    else:
        qcow2.create(new, size)
    faults.reach("disk.before_rename")
    new.rename(home.disk)
    sync_directory(home.directory)


def grow_root(spec: dict[str, Any], home: Home) -> None:
    """Give its own disk the size that it was grown to, while no emulator has it open. Raises Refused or OSError."""
    size = int(spec["disk_gib"]) * GIB
    if boots_from_volume(spec) or not folders.status(home.disk) or qcow2.virtual_size(home.disk, "qcow2") >= size:
        return
    faults.reach("machine.grow_disk.before_resize")
    qcow2.grow(home.disk, size)
    faults.reach("machine.grow_disk.after_resize")


def grow_volumes(spec: dict[str, Any], layers: Layers) -> None:
    """Give volumes the size that they were grown to while no emulator had them open. Raises Refused or OSError."""
    for volume in spec.get("volumes") or ():
        is_here = not volume.get("ceph") and "served" not in volume  # what is in Ceph grows when it is opened
        if is_here and not volume["read_only"]:
            layers.grow(volume["chain"][-1], int(volume["size_bytes"]))


def require_room(home: Home) -> None:
    """Raises Refused if the host's free disk space is reserved for running guests."""
    free = shutil.disk_usage(home.directory).free
    if free < MIN_FREE_BYTES:
        words = f"{free >> 20} MiB are free and {MIN_FREE_BYTES >> 20} MiB are kept free"
        raise Refused(f"the host's disk is full: {words}")


@contextmanager
def opened(disks: tuple[Disk, ...]) -> Iterator[tuple[Disk, ...]]:
    """The same disks with all of their layers open, for an emulator to inherit. Raises OSError, Refused."""
    with ExitStack() as stack:
        ready = []
        for disk in disks:
            layers = []
            for layer in disk.layers:
                descriptor = _open(layer, writes=disk.writes(layer))
                stack.callback(os.close, descriptor)
                layers.append(replace(layer, descriptor=descriptor))
            ready.append(replace(disk, layers=tuple(layers)))
        yield tuple(ready)


def _open(layer: Layer, *, writes: bool) -> int:
    """Raises OSError, Refused."""
    if layer.remote:
        return layer.remote.connect(read_only=not writes)
    return folders.open_file(layer.path, os.O_RDWR if writes else os.O_RDONLY)
