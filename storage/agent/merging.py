"""Several layers that lie on each other as one new layer, over what the lowest of them lies on.

The programs that read them are confined, as those of images are: a guest's emulator has written these files.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent import faults, folders
from agent.control_plane import ControlPlane
from agent.errors import Refused, Unreachable
from agent.work import Work
from storage.agent import qcow2, qemu_img
from storage.agent.backups import size_of
from storage.agent.captures import Chain, readable
from storage.agent.confined import Helpers
from storage.agent.conversion import Tool
from storage.agent.layers import Layers

SECONDS_BETWEEN_PROGRESS = 1.0

faults.declare("merge.before_write", "merge.after_write")


@dataclass(frozen=True)
class Merge:
    """One at work. Every method may raise Refused, Abandoned or OSError."""

    layers: Layers
    helpers: Helpers
    control_plane: ControlPlane
    work: Work
    pool: str | None = None

    def make(self, layer_id: str, run: Chain, below: Chain) -> None:
        """Make a layer of others, whole or not at all. They stay as they are."""
        chain = [*below, *run]
        for path, _ in chain:
            if not path.exists():
                raise Refused(f"a file of this volume is missing on its host ({path.stem})")
        size = max(size_of(path, format_) for path, format_ in chain)  # refuses what we never make
        self.layers.create_filled(
            layer_id, lambda new: self._write(layer_id, run, below, new, size), format_=qemu_img.QCOW2, pool=self.pool
        )

    def _write(self, layer_id: str, run: Chain, below: Chain, new: Path, size: int) -> None:
        folder = self.layers.workshop(layer_id, self.pool)
        with self.helpers.turn(self.work) as uid:
            folders.remove(folder)
            folders.make_folder(folder, 0o700, uid=uid, gid=uid)
            made = folder / "layer"
            under, under_format = self._name_of(below)
            qemu_img.run(qemu_img.create(made, size, below=under, below_format=under_format))
            folders.give_file(made, uid, 0o600)
            faults.reach("merge.before_write")
            with readable([path for path, _ in (*below, *run)], uid):
                tool = Tool(self.helpers, uid, folder, self.work)
                tool.merge(run, below, made, size, self._progress(layer_id))
            folders.give_file(made, 0 if uid is not None else None, 0o600)
            if qcow2.size_of_layer(made) != size:
                raise Refused("what came out of the merge is not what went in")
            faults.reach("merge.after_write")
            made.rename(new)
            folders.remove(folder)

    def _name_of(self, below: Chain) -> tuple[Path | None, str]:
        """What the new layer's header is to name, as those of all layers do: a layer is beside it."""
        if not below:
            return None, qemu_img.QCOW2
        path, format_ = below[-1]
        return Path(path.name) if path.parent == self.layers.place(self.pool) else path, format_

    def _progress(self, layer_id: str) -> Callable[[float], None]:
        """Tells the control plane how far it is, at most once a second. Nothing depends on it."""
        told_at = 0.0

        def hear(percent: float) -> None:
            nonlocal told_at
            now = time.monotonic()
            if now - told_at < SECONDS_BETWEEN_PROGRESS:
                return
            told_at = now
            with suppress(Unreachable):
                path = f"/agent/v1/merges/{layer_id}/progress"
                self.control_plane.tell("PUT", path, json={"percent": int(percent)}, ignored=(404, 405, 409, 410))

        return hear
