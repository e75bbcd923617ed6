"""The common part of all work on tenants' images: its folder, confined programs, progress, the result.

In the folder are what is being made, `out` where the confined programs write, and at the end `done.json`. A worker that
dies leaves the folder; the next one does again what is missing.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import faults, folders
from agent.control_plane import ControlPlane
from agent.errors import OPERATOR, Refused, Unreachable
from agent.work import Work
from storage import uefi
from storage.agent.confined import HELPERS, Helpers
from storage.agent.conversion import Parts, Tool, examine_result
from storage.agent.inspection.common import Disk, Unfit

PIECE = 1 << 20
MAX_PAUSE = 15.0
SECONDS_BETWEEN_PROGRESS = 1.0
MAX_DONE = 1 << 20
ROUNDED_UP = 1 << 20  # some formats have disks of whole MiB only

Facts = dict[str, Any]

faults.declare("image.before_convert", "image.after_convert", "image.before_done")


@dataclass(frozen=True)
class ImageWork:
    """The row `spec["id"]` at work. Every method may raise Unfit, Refused, Abandoned or OSError."""

    spec: dict[str, Any]
    folder: Path
    helpers: Helpers
    control_plane: ControlPlane
    work: Work

    @property
    def places(self) -> int:
        """How many of the places for confined programs such work may fill."""
        return HELPERS

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self) -> Facts:
        """Do what is missing; the facts for the report."""
        if facts := self._was_done():
            return facts
        with self.helpers.turn(self.work, self.places) as uid:
            self._open_to(uid)
            facts = self.make(Tool(self.helpers, uid, self.out, self.work), Progress(self))
        faults.reach("image.before_done")
        self._write_done(facts)
        return facts

    def make(self, tool: Tool, progress: "Progress") -> Facts:
        """All of the work."""
        raise NotImplementedError

    @property
    def virtual_bytes(self) -> int:
        """What a disk may have at most."""
        return int(self.spec["limits"]["virtual_bytes"])

    # Once is enough

    def _wanted(self) -> dict[str, Any]:
        return {key: value for key, value in self.spec.items() if key not in ("image", "generation")}

    def _was_done(self) -> Facts | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            done = json.loads(folders.read_file(self.folder / "done.json", MAX_DONE))
            if done["wanted"] == self._wanted():
                return dict(done["facts"])
        return None

    def _write_done(self, facts: Facts) -> None:
        """Record the result, and remove everything else."""
        new = self.folder / "done.new"
        new.unlink(missing_ok=True)
        with folders.create_file(new) as file:
            file.write(json.dumps({"wanted": self._wanted(), "facts": facts}).encode())
        new.rename(self.folder / "done.json")
        for name in folders.names(self.folder):
            if name != "done.json":
                folders.remove(self.folder / name)

    # With the confined programs

    def _open_to(self, uid: int | None) -> None:
        """Give only the confined programs access to the folder. Remove what they left."""
        folders.make_folder(self.folder, 0o710, gid=uid)
        folders.remove(self.out)
        folders.make_folder(self.out, 0o700, uid=uid, gid=uid)

    def take(self, made: Path, target: Path) -> None:
        """Make a file ours that a confined program wrote."""
        handle = folders.open_file(made)
        try:
            os.fchown(handle, os.geteuid(), os.getegid())
            os.fchmod(handle, 0o444)
        finally:
            os.close(handle)
        made.rename(target)

    def convert(
        self, tool: Tool, source: Path, disk: Disk, made: Path, *, format_: str, hear: Callable[[float], None]
    ) -> None:
        """Turn one disk into a new file of ours, which is then looked at as the source was: a hostile image may have
        taken the conversion over."""
        faults.reach("image.before_convert")
        made.unlink(missing_ok=True)
        tool.convert(source, disk, format_, self.out / made.name, hear)
        self.take(self.out / made.name, made)
        again = examine_result(made, format_, self.virtual_bytes + ROUNDED_UP)
        if not 0 <= again.virtual_bytes - disk.virtual_bytes <= ROUNDED_UP or again.notes:
            raise Unfit("What came out of the conversion is not what went in: the file is damaged. Export it again.")
        faults.reach("image.after_convert")

    def flatten(self, tool: Tool, chain: Parts, size: int, made: Path, hear: Callable[[float], None]) -> None:
        """Turn files that lie on each other, the lowest first, into one new file of ours, and look at it."""
        faults.reach("image.before_convert")
        made.unlink(missing_ok=True)
        tool.flatten(chain, size, self.out / made.name, hear)
        self.take(self.out / made.name, made)
        again = examine_result(made, "qcow2", self.virtual_bytes)
        if again.virtual_bytes != size or again.notes:
            raise Unfit("What came out of the conversion is not what went in: the disk is damaged.", fix_by=OPERATOR)
        faults.reach("image.after_convert")

    # With the control plane

    def store(self, number: int, file: Path, progress: "Progress") -> Facts:
        """Send a file of the result; its size and sum."""
        size, sha256 = file.stat().st_size, file_sum(file, self.work)
        path = f"/agent/v1/imports/{self.spec['id']}/files/{number}"

        def pieces() -> Iterator[bytes]:
            done = 0
            for piece in read_pieces(file, self.work):
                done += len(piece)
                progress.tell("storing", done, size, "bytes")
                yield piece

        try:
            self.patiently(lambda: self.control_plane.upload(path, pieces(), size, sha256))
        except Refused as problem:  # by the control plane: another host would have no better luck
            raise Unfit(str(problem), fix_by=problem.fix_by) from problem
        file.unlink()
        return {"index": number, "sha256": sha256, "size": size}

    def store_uefi(self, number: int, settings: bytes | None, progress: "Progress") -> list[Facts]:
        """Send the settings that UEFI keeps, if there are any, as one more file of the result."""
        if settings is None:
            return []
        file = self.folder / uefi.ROLE
        file.unlink(missing_ok=True)
        with folders.create_file(file) as target:
            target.write(settings)
        return [{"role": uefi.ROLE, "format": "raw", **self.store(number, file, progress)}]

    def send(self, path: str, content: bytes) -> None:
        """Send some bytes. Raises Refused when the control plane does not want them."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.patiently(lambda: self.control_plane.upload(path, iter((content,)), len(content), sha256))

    def ask_patiently(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """What the control plane answers. Raises Refused when it does not want to."""
        answer: dict[str, Any] = {}
        self.patiently(lambda: answer.update(self.control_plane.ask(method, path, body)))
        return answer

    def patiently(self, act: Callable[[], None]) -> None:
        patiently(self.work, act)


def patiently(work: Work, act: Callable[[], None]) -> None:
    """Do something with the control plane, as often as it takes."""
    pause = 1.0
    while True:
        try:
            return act()
        except Unreachable:
            work.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE)


class Progress:
    """Tells the control plane how far the work is, at most once a second. Nothing depends on it."""

    def __init__(self, of: ImageWork) -> None:
        self._work = of
        self._told_at = 0.0
        self._phase = ""

    def tell(self, phase: str, done: int, of: int | None, unit: str) -> None:
        now = time.monotonic()
        if phase == self._phase and now - self._told_at < SECONDS_BETWEEN_PROGRESS:
            return
        self._phase, self._told_at = phase, now
        body = {"phase": phase, "done": done, "of": of, "unit": unit}
        path = f"/agent/v1/imports/{self._work.spec['id']}/progress"
        with contextlib.suppress(Unreachable):
            self._work.control_plane.tell("PUT", path, json=body, ignored=(404, 405, 409, 410))

    def of_conversion(self, before: int, size: int, total: int) -> Callable[[float], None]:
        """What hears the percentage of one disk of `size` bytes, of `total`, when `before` bytes are done already."""
        return lambda percent: self.tell("converting", before + int(size * percent / 100), total, "bytes")


def read_pieces(path: Path, work: Work) -> Iterator[bytes]:
    with os.fdopen(folders.open_file(path), "rb") as file:
        while piece := file.read(PIECE):
            work.check()
            yield piece


def file_sum(path: Path, work: Work) -> str:
    digest = hashlib.sha256()
    for piece in read_pieces(path, work):
        digest.update(piece)
    return digest.hexdigest()
