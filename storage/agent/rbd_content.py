"""What the first image of a volume in Ceph begins with: nothing, what is on an image of ours, or a backup. It is
copied, so that no host needs the file afterwards."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import folders
from agent.control_plane import ControlPlane
from agent.work import Work
from storage.agent import qcow2, qemu_img
from storage.agent.captures import readable
from storage.agent.confined import Helpers
from storage.agent.conversion import Tool, connected
from storage.agent.layers import Layers
from storage.agent.rbd import Images
from storage.agent.restores import PART_BYTES, Restore

Base = Callable[[dict[str, Any], Work], tuple[Path, str]]  # the file of an image, and its format


@dataclass(frozen=True)
class First:
    """Makes it. Every method may raise Refused, Abandoned or OSError."""

    images: Images
    layers: Layers
    helpers: Helpers
    control_plane: ControlPlane
    work: Work

    def make(self, layer: dict[str, Any], base: Base) -> None:
        """The image of a layer that lies on no other, whole or not at all."""
        if layer["backup"]:
            self._restore(layer, int(layer["backup"]["size_gib"]))
        elif layer["image"]:
            self._copy(layer, *base(layer["image"], self.work))
        else:
            self.images.create(layer["rbd"], layer["size_bytes"])

    def _copy(self, layer: dict[str, Any], source: Path, format_: str) -> None:
        size = qcow2.virtual_size(source, format_)

        def fill(connect: Callable[[], int]) -> None:
            with self.helpers.turn(self.work) as uid, readable([source], uid), connected(connect) as connection:
                Tool(self.helpers, uid, source.parent, self.work).send(source, format_, size, connection)

        self.images.create_filled(layer["rbd"], max(size, layer["size_bytes"]), fill)

    def _restore(self, layer: dict[str, Any], parts: int) -> None:
        """One GiB after the other: each is a file for a while."""
        folder = self.layers.workshop(layer["id"])
        restore = Restore(self.control_plane, layer["id"], self.work)

        def fill(connect: Callable[[], int]) -> None:
            folders.remove(folder)
            folders.make_folder(folder, 0o711)
            part = folder / "part"
            for number in range(parts):
                restore.write_part(part, number)
                with (
                    self.helpers.turn(self.work) as uid,
                    readable([part], uid),
                    connected(connect) as connection,
                ):
                    tool = Tool(self.helpers, uid, folder, self.work)
                    tool.send(part, qemu_img.RAW, PART_BYTES, connection, offset=number * PART_BYTES)
                part.unlink()

        try:
            self.images.create_filled(layer["rbd"], layer["size_bytes"], fill)
        finally:
            folders.remove(folder)
