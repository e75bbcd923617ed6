"""The files of volumes on this host: one for each layer, named by its id. Only the control plane makes ids.

They are in the agent's home, or in a folder that this host shares with others (`storage.agent.pools`). Those in Ceph
are no files: see `storage.agent.rbd`.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from agent import faults, folders
from agent.durability import sync_directory, sync_file
from agent.errors import Refused
from agent.jail import Jail
from agent.paths import Paths, make_passable
from storage.agent import qcow2, qemu_img, relays
from storage.agent.ceph import Clusters
from storage.agent.fences import fences_of
from storage.agent.nbd import OnStorageHost, Server
from storage.agent.pools import VOLUMES, pools_of
from storage.agent.qemu_img import QCOW2, RAW
from storage.agent.rbd_owners import Claim
from storage.agent.rbd_remote import Remote
from storage.agent.relays import Relay

log = structlog.get_logger()

MIN_FREE_BYTES = 64 << 20  # of the disk, for what running guests still write

faults.declare("layers.before_create", "layers.before_rename", "layers.before_unlink")


class Layers:
    """The folder `volumes` of the agent's home, and that of each pool. `pool` None: the home's. `clusters`: where those
    are that are no files."""

    def __init__(self, paths: Paths, jail: Jail) -> None:
        self._home, self._jail = paths.home, jail
        self.directory = paths.home / "volumes"
        self.pools = pools_of(paths)
        self.fences = fences_of(paths)
        self.clusters = Clusters(paths, jail)
        make_passable(self.directory)

    def path(self, layer_id: str) -> Path:
        """Where a layer is, or would be made. Raises ValueError for what is no id."""
        name = str(uuid.UUID(layer_id))
        for directory in self._places():
            if path := _file_in(directory, name):
                return path
        return self.directory / f"{name}.{QCOW2}"

    def _places(self) -> Iterator[Path]:
        """Its own disk first: what is there is found without asking a file server."""
        yield self.directory
        yield from self.pools.found().values()

    def remote(self, disk: dict[str, Any], image: str, holder: str = "") -> Remote:
        """An image in Ceph, for the emulator of a machine. `disk`: as the specs of machines have one."""
        size, keeps = int(disk["size_bytes"]), disk.get("keeps")
        return Remote(self.clusters, disk["ceph"], image, size, keeps, self.claim_of(disk), holder)

    def claim_of(self, spec: dict[str, Any]) -> Claim | None:
        """See Claim.of."""
        return Claim.of(spec, self.fences.host)

    def served(self, place: dict[str, Any], holder: str = "") -> "Served":
        """A volume that another host serves, for the emulator of a machine. `place`: {"id", "host", "port", "key"}."""
        source = OnStorageHost(place["host"], int(place["port"]), str(uuid.UUID(place["id"])), place["key"])
        return Served(self._home, source, self._jail, holder)

    def silent(self, holder: str, layer: str = "") -> list[Relay]:
        """What serves a machine a layer, or any, whose storage does not answer. Takes some seconds to find out."""
        those = [one for one in relays.find(self._home, holder) if not layer or one.serves(layer)]
        with ThreadPoolExecutor(max(1, len(those))) as asking:
            answered = list(asking.map(self._is_answered, [one.image for one in those]))
        return [one for one, is_answered in zip(those, answered, strict=True) if not is_answered]

    def _is_answered(self, image: dict[str, Any]) -> bool:
        if image["driver"] == "rbd":
            return self.clusters.is_answered(image["pool"], image["image"])
        return relays.is_answered(image["server"]["host"], int(image["server"]["port"]))

    def are_served(self, images: Iterable[str]) -> bool:
        """Whether each of these images has a server, through which a machine reaches it."""
        return set(images).issubset(one.name for one in relays.find(self._home))

    def cut_off(self, holder: str, layer: str = "") -> bool:
        """Have what a guest waits for fail if the storage of a layer, or of any, does not answer. Whether that was
        so."""
        silent = self.silent(holder, layer)
        if silent:
            log.warning(
                "the storage of a disk does not answer: it is taken from its guest", machine=holder, layer=layer
            )
        relays.cut_off(silent)
        return bool(silent)

    def end_servers(self, holder: str, *, but_for: Iterable[str] = ()) -> None:
        """Nothing of a machine has these images open. Raises Refused."""
        relays.end_of(self._home, holder, but_for=frozenset(but_for))

    def is_shared(self, layer_id: str) -> bool:
        """Whether other hosts may have it too."""
        return self.path(layer_id).parent != self.directory

    def place(self, pool: str | None) -> Path:
        """The folder for new layers. Raises Refused when the pool is not mounted here."""
        return self.pools.directory(pool) if pool else self.directory

    def format_of(self, layer_id: str) -> str:
        """QCOW2 or RAW."""
        return self.path(layer_id).suffix[1:]

    def exists(self, layer_id: str) -> bool:
        return self.path(layer_id).exists()

    def lost(self, layers: Iterable[str], pool: str | None) -> list[str]:
        """Those of these that have no file. Raises Refused when the pool is not mounted here or does not answer."""

        def look(directory: Path) -> list[str]:
            return [layer_id for layer_id in layers if not _file_in(directory, layer_id)]

        return self.pools.ask(pool, lambda folder: look(folder / VOLUMES)) if pool else look(self.directory)

    def sync(self, layer_id: str, pool: str) -> None:
        """Have what was written to a layer in a pool on the file server. Raises Refused, OSError."""

        def write_out(folder: Path) -> None:
            if path := _file_in(folder / VOLUMES, layer_id):
                sync_file(path)

        self.pools.ask(pool, write_out)

    def size(self, layer_id: str) -> int:
        """The bytes that a guest sees. Raises Refused."""
        path = self.path(layer_id)
        return path.stat().st_size if path.suffix == f".{RAW}" else qcow2.size_of_layer(path)

    def create(
        self,
        layer_id: str,
        size: int,
        *,
        parent: str | None = None,
        base: tuple[Path, str] | None = None,
        pool: str | None = None,
    ) -> None:
        """Make an empty layer, whole or not at all: over another layer, over the file of an image, or over nothing.

        It is never smaller than its parent. Raises Refused.
        """
        directory = self.place(pool)
        self._require_room(directory)
        faults.reach("layers.before_create")
        if parent is not None:
            size = max(size, self.size(parent))
        if not qemu_img.is_there():
            if parent or base:
                raise Refused("this host has no qemu-img: a volume on it can only begin empty, and has no snapshots")
            self._create_raw(layer_id, size, pool)
            return
        path = directory / f"{uuid.UUID(layer_id)}.{QCOW2}"
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        below, below_format = base or (None, QCOW2)
        if parent is not None:
            below, below_format = Path(self.path(parent).name), self.format_of(parent)  # beside it
        qemu_img.run(qemu_img.create(new, size, below=below, below_format=below_format))
        self._put(new, path)

    def _create_raw(self, layer_id: str, size: int, pool: str | None) -> None:
        def write(new: Path) -> None:
            with new.open("wb") as file:
                os.truncate(file.fileno(), size)

        self.create_filled(layer_id, write, pool=pool)

    def create_filled(
        self, layer_id: str, write: Callable[[Path], None], *, format_: str = RAW, pool: str | None = None
    ) -> None:
        """Make a layer of what `write` puts into a new file, whole or not at all. Raises what that raises."""
        directory = self.place(pool)
        self._require_room(directory)
        path = directory / f"{uuid.UUID(layer_id)}.{format_}"
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        write(new)
        self._put(new, path)

    def _put(self, new: Path, path: Path) -> None:
        new.chmod(0o600)
        sync_file(new)
        faults.reach("layers.before_rename")
        new.rename(path)
        sync_directory(path.parent)

    def take_in(self, layer_id: str, file: Path) -> None:
        """Make a layer of a whole file of the same filesystem, whose format its suffix names. Raises OSError."""
        path = self.directory / f"{uuid.UUID(layer_id)}{file.suffix}"
        faults.reach("layers.before_rename")
        file.rename(path)
        sync_directory(self.directory)

    def grow(self, layer_id: str, size: int) -> None:
        """Make a layer that no emulator has open at least this large. Raises Refused."""
        path = self.path(layer_id)
        if path.suffix != f".{RAW}":
            qcow2.grow(path, size)
        elif path.stat().st_size < size:
            os.truncate(path, size)
            sync_file(path)

    def lie_on(self, layer_id: str, parent: str) -> None:
        """Have the header of a layer that no emulator has open name its parent. Only people's tools follow that."""
        path, below = self.path(layer_id), self.path(parent)
        if path.suffix == f".{RAW}" or qcow2.name_below(path) == below.name:
            return
        try:
            self.size(layer_id)
            qemu_img.run(qemu_img.rebase(path, Path(below.name), self.format_of(parent)))
            sync_file(path)
        except Refused as problem:  # such as: an emulator has it open below another volume
            log.warning("the header of a layer stays as it is", layer=layer_id, problem=str(problem))

    def remove(self, layer_id: str) -> None:
        """Unlink a layer, and what is left of making it."""
        path = self.path(layer_id)
        faults.reach("layers.before_unlink")
        for directory in self._places():
            (directory / f"{uuid.UUID(layer_id)}.new").unlink(missing_ok=True)
            folders.remove(directory / f"{uuid.UUID(layer_id)}.work")
        path.unlink(missing_ok=True)
        sync_directory(path.parent)

    def workshop(self, layer_id: str, pool: str | None = None) -> Path:
        """A folder for the programs that make a layer, on the filesystem where that will be."""
        return self.place(pool) / f"{uuid.UUID(layer_id)}.work"

    def there(self) -> Iterator[str]:
        """The ids of all layers that have a file on this host itself."""
        for path in self.directory.iterdir():
            if path.suffix in (f".{QCOW2}", f".{RAW}"):
                yield path.stem

    def used_bytes(self) -> int:
        """What they take of the host's own disk."""
        return sum(path.stat().st_blocks * 512 for path in self.directory.iterdir())

    def _require_room(self, directory: Path) -> None:
        free = shutil.disk_usage(directory).free
        if free < MIN_FREE_BYTES:
            words = f"{free >> 20} MiB are free and {MIN_FREE_BYTES >> 20} MiB are kept free"
            where = "the host's disk" if directory == self.directory else "the shared folder"
            raise Refused(f"{where} is full: {words}")


@dataclass(frozen=True)
class Served:
    """What an emulator reaches through a connection of its own."""

    home: Path
    source: OnStorageHost
    jail: Jail
    holder: str = ""
    keeps: None = None  # the storage host sees to snapshots

    def connect(self, *, read_only: bool) -> int:
        """The descriptor of a socket on which NBD is spoken. Raises Refused."""
        return Server(self.home, self.source, self.holder).start(self.jail, read_only=read_only)

    def keep(self) -> bool:
        """See storage.agent.rbd: there is nothing to do here."""
        return False


def _file_in(directory: Path, layer_id: str) -> Path | None:
    files = (directory / f"{layer_id}.{suffix}" for suffix in (RAW, QCOW2))
    return next((path for path in files if path.exists()), None)
