"""Makes an image of a disk on this host: of a machine's disk, or of a volume's layers that are no longer written.

Whoever has the machine copies what its guest has written, as of one moment; then all that the disk lies on becomes one
file, confined, without what the headers of these files say being followed.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from agent import faults, folders
from agent.errors import OPERATOR, Refused
from agent.work import Work
from storage.agent import qcow2, qemu_img
from storage.agent.conversion import Parts, Tool, connected
from storage.agent.image_cache import ImageCache
from storage.agent.image_work import Facts, ImageWork, Progress
from storage.agent.inspection.common import Unfit, size_words
from storage.agent.layers import Layers
from storage.agent.rbd import Images

COPIED, MACHINE = "copied", "machine"  # files of its folder: what a guest has written; whose disk it is

faults.declare("capture.before_copy", "capture.after_copy")

Chain = list[tuple[Path, str]]  # files and their formats, the base first
Hear = Callable[[int, int], None]  # bytes that are copied, and of how many


class HasDisks(Protocol):
    """A kind whose resources have disks. All may raise Unfit, Refused, NoAnswer, Abandoned or OSError."""

    def copy_disk(
        self, resource_id: str, target: Path, work: Work, hear: Hear, *, volume: str | None = None
    ) -> tuple[Chain, str]:
        """Copy what is written to a disk into a new file, as of one moment: to a volume of it, or to the disk that it
        boots from. What the copy lies on and itself, and what it is worth: "crash" or "filesystem"."""

    def end_copy(self, resource_id: str) -> None:
        """End a copy whose worker is gone."""

    def read_uefi(self, resource_id: str) -> bytes | None:
        """The settings that UEFI keeps for it; None: it has none."""


@dataclass(frozen=True)
class Capture(ImageWork):
    """`source`: {"kind": "machine", "type", "machine": its id} or {"kind": "layers", "layers": [ids, the lowest first],
    "base": a file of an image or null}, in Ceph also its pool as "ceph" and its image as "rbd"; with the "type" and
    "machine" that boots from them, if one does."""

    images: ImageCache
    layers: Layers
    kinds: Mapping[str, Any]

    def make(self, tool: Tool, progress: Progress) -> Facts:
        chain, consistency = self._chain(progress)
        size = self.size_of(chain)
        if size > self.virtual_bytes:
            raise Unfit(f"The disk has {size_words(size)}, and an image has {size_words(self.virtual_bytes)} at most.")
        settings = self._uefi()
        made = self.folder / "disk-0"
        hear = progress.of_conversion(0, size, size)
        with self.opened(chain, tool.uid) as parts:
            self.flatten(tool, parts, size, made, hear)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / COPIED).unlink()
        disk = {"role": "disk", "format": "qcow2", "virtual_bytes": size}
        disks = [{"name": "", "format": "qcow2", "virtual_bytes": size}]
        found = {"format": "qcow2", "virtual_bytes": size, "disks": disks, "notes": [], "machine": None}
        files = [{**disk, **self.store(0, made, progress)}, *self.store_uefi(1, settings, progress)]
        return {"found": {**found, "consistency": consistency}, "files": files}

    def size_of(self, chain: Chain) -> int:
        """The bytes of the disk."""
        if self.in_ceph:
            kept = Images(self.layers.clusters.get(self.in_ceph)).kept(self._image)
            if self._layer not in kept:
                raise Unfit("A part of the volume is not in Ceph any more.", fix_by=OPERATOR)
            return kept[self._layer]
        return [
            qcow2.size_of_layer(path) if format_ == qemu_img.QCOW2 else path.stat().st_size for path, format_ in chain
        ][-1]  # refuses what we never make

    @contextlib.contextmanager
    def opened(self, chain: Chain, uid: int | None) -> Iterator[Parts]:
        """What one program reads the disk from."""
        if self.in_ceph:
            images = Images(self.layers.clusters.get(self.in_ceph))
            with connected(lambda: images.connect(self._image, read_only=True, layer=self._layer)) as connection:
                yield [(connection, qemu_img.RAW)]
            return
        with readable([path for path, _ in chain], uid):
            yield chain

    @property
    def in_ceph(self) -> str:
        """The pool of a cluster where it is; "" for files."""
        return str(self.spec["source"].get("ceph") or "")

    @property
    def _image(self) -> str:
        return str(self.spec["source"]["rbd"])

    @property
    def _layer(self) -> str:
        return str(self.spec["source"]["layers"][-1])

    def _uefi(self) -> bytes | None:
        source = self.spec["source"]
        return holder_in(self.kinds, source).read_uefi(str(source["machine"])) if source.get("machine") else None

    def _chain(self, progress: Progress) -> tuple[Chain, str]:
        source = self.spec["source"]
        if self.in_ceph:
            return [], ""
        if source["kind"] == "machine":
            return self._of_machine(source, progress)
        return self._of_layers(source)

    def _of_layers(self, source: Mapping[str, Any]) -> tuple[Chain, str]:
        base = source.get("base")
        below: Chain = [(self.images.fetch(base, self.work), str(base["format"]))] if base else []
        for layer in source["layers"]:
            if not self.layers.exists(layer):
                raise Unfit("A part of the volume is not on its host any more.", fix_by=OPERATOR)
        return [*below, *((self.layers.path(one), self.layers.format_of(one)) for one in source["layers"])], ""

    def _of_machine(
        self, source: Mapping[str, Any], progress: Progress, *, volume: str | None = None
    ) -> tuple[Chain, str]:
        copied = self.folder / COPIED
        copied.unlink(missing_ok=True)
        write_holder(self.folder, source)
        faults.reach("capture.before_copy")
        progress.tell("fetching", 0, None, "bytes")
        holder = holder_in(self.kinds, source)
        machine = str(source["machine"])
        chain, consistency = holder.copy_disk(
            machine, copied, self.work, lambda done, of: progress.tell("fetching", done, of, "bytes"), volume=volume
        )
        copied.chmod(0o444)
        faults.reach("capture.after_copy")
        return chain, consistency


def holder_in(kinds: Mapping[str, Any], source: Mapping[str, Any]) -> HasDisks:
    kind = kinds.get(str(source["type"]))
    if not hasattr(kind, "copy_disk"):
        raise Refused(f"this host has no {source['type']} whose disk could be copied")
    return cast(HasDisks, kind)


def write_holder(folder: Path, source: Mapping[str, Any]) -> None:
    """Note whose disk is copied, for `let_go`."""
    (folder / MACHINE).unlink(missing_ok=True)
    with folders.create_file(folder / MACHINE) as file:
        file.write(f"{source['type']} {uuid.UUID(str(source['machine']))}".encode())


def let_go(folder: Path, kinds: Mapping[str, Any]) -> None:
    """End a copy that an emulator still makes for a worker that is gone."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        type_, _, machine = folders.read_file(folder / MACHINE, 200).decode().partition(" ")
        with contextlib.suppress(Refused):
            holder_in(kinds, {"type": type_}).end_copy(machine)


@contextlib.contextmanager
def readable(paths: list[Path], uid: int | None) -> Iterator[None]:
    """Let the user of the confined programs read files of ours that only we can, and take that back."""
    with contextlib.ExitStack() as stack:
        for path in paths if uid is not None else []:
            found = path.stat()
            if not found.st_mode & 0o004:
                stack.callback(os.chown, path, -1, found.st_gid)
                stack.callback(os.chmod, path, found.st_mode & 0o777)
                os.chown(path, -1, cast(int, uid))
                os.chmod(path, (found.st_mode & 0o777) | 0o040)
        yield
