"""One import of an image on this host: fetch what a tenant gave, inspect it, convert it, store the result.

Everything is in a folder of the import's own: `source`, and `out` where the confined programs write. A worker that
dies leaves that folder; the next one goes on with a source that is whole, and does the rest again.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import faults, folders
from agent.control_plane import ControlPlane
from agent.errors import Refused, Unreachable
from agent.work import Work
from storage.agent.confined import FOR_THE_NETWORK, Bounds, Failed, Helpers, Program, TooLong, View, own_python, python
from storage.agent.conversion import Tool, check_room
from storage.agent.inspection.common import Disk, Found, Unfit

PIECE = 1 << 20
MAX_PAUSE = 15.0
SECONDS_BETWEEN_PROGRESS = 1.0
MAX_TRIES = 5  # of a download from a server of which nobody knows
DEFAULT_MAX_BYTES = 64 << 30
DEFAULT_MAX_SECONDS = 6 * 3600
MAX_DONE = 1 << 20

Facts = dict[str, Any]

faults.declare(
    "import.before_fetch", "import.after_fetch", "import.before_convert", "import.after_convert", "import.before_done"
)


@dataclass(frozen=True)
class Import:
    """The row `spec["id"]` at work. Every method may raise Unfit, Refused, Unreachable, Abandoned or OSError."""

    spec: dict[str, Any]
    folder: Path
    helpers: Helpers
    control_plane: ControlPlane
    work: Work

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def done(self) -> Path:
        return self.folder / "done.json"

    def run(self) -> Facts:
        """Do what is missing; the facts for the report."""
        if facts := self._was_done():
            return facts
        with self.helpers.turn(self.work) as uid:
            self._open_to(uid)
            progress = Progress(self)
            self._fetch(uid, progress)
            progress.tell("inspecting", 0, None, "bytes")
            tool = Tool(self.helpers, uid, self.out, self.work)
            found = tool.inspect(self.source, self.spec.get("declared_format"), self._virtual_bytes)
            files = [self._convert(tool, number, disk, found, progress) for number, disk in enumerate(found.disks)]
        facts = {"found": described(found), "files": files}
        faults.reach("import.before_done")
        self._write_done(facts)
        return facts

    @property
    def _virtual_bytes(self) -> int:
        return int(self.spec["limits"]["virtual_bytes"])

    # Once is enough

    def _wanted(self) -> dict[str, Any]:
        return {key: self.spec.get(key) for key in ("source", "declared_format", "limits", "result")}

    def _was_done(self) -> Facts | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            done = json.loads(folders.read_file(self.done, MAX_DONE))
            if done["wanted"] == self._wanted():
                return dict(done["facts"])
        return None

    def _write_done(self, facts: Facts) -> None:
        new = self.done.with_suffix(".new")
        new.unlink(missing_ok=True)
        with folders.create_file(new) as file:
            file.write(json.dumps({"wanted": self._wanted(), "facts": facts}).encode())
        new.rename(self.done)
        self.source.unlink(missing_ok=True)
        folders.remove(self.out)

    # The source

    def _open_to(self, uid: int | None) -> None:
        """Let the confined programs, and nobody else, pass through the import's folder. What they left is removed."""
        folders.remove(self.out)
        folders.make_folder(self.folder, 0o710, gid=uid)
        folders.make_folder(self.out, 0o700, uid=uid, gid=uid)

    def _fetch(self, uid: int | None, progress: "Progress") -> None:
        source = self.spec["source"]
        wanted = folders.status(self.source)
        if wanted is None:
            faults.reach("import.before_fetch")
            part = self.source.with_suffix(".part")
            part.unlink(missing_ok=True)
            if source["kind"] == "upload":
                self._patiently(lambda: self._receive(part, progress))
            elif source["kind"] == "url":
                self._download(uid, part, progress)
            else:
                raise Refused(f"this host does not know sources of the kind {source['kind']}")
            part.chmod(0o444)
            part.rename(self.source)
            faults.reach("import.after_fetch")

    def _receive(self, part: Path, progress: "Progress") -> None:
        """Fetch what was uploaded to the control plane."""
        source = self.spec["source"]
        size, declared = source.get("size"), source.get("sha256")
        check_room(self.folder, int(size or 0))
        part.unlink(missing_ok=True)
        digest, received = hashlib.sha256(), 0
        path = f"/agent/v1/uploads/{self.spec['id']}"
        with self.control_plane.download(path, "upload for this image") as pieces, folders.create_file(part) as file:
            for piece in pieces:
                self.work.check()
                received += len(piece)
                if size is not None and received > int(size):
                    break
                digest.update(piece)
                file.write(piece)
                progress.tell("fetching", received, size, "bytes")
        if size is not None and received != int(size):
            raise Unreachable(f"received {received} of {size} bytes")
        if declared and digest.hexdigest() != declared:
            raise Unreachable("other bytes were received than were uploaded")

    def _download(self, uid: int | None, part: Path, progress: "Progress") -> None:
        """Fetch from the server that the tenant named, in a program that has the network and no files."""
        source = self.spec["source"]
        limits = {"max_bytes": DEFAULT_MAX_BYTES, "max_seconds": DEFAULT_MAX_SECONDS}
        wish = limits | {key: value for key, value in source.items() if value is not None}
        check_room(self.folder)
        seconds, most = float(wish["max_seconds"]), int(wish["max_bytes"])
        target = self.out / "download"
        line = python("storage.agent.downloader", os.fspath(target), json.dumps(wish))
        seen = (*own_python(), *(Path(path) for path in FOR_THE_NETWORK))
        view = View(readable=seen, writable=(self.out,), network=True)
        program = Program(line, Bounds(seconds + 30, file_bytes=most), view)

        def hear(line: str) -> None:
            check_room(self.folder)
            match line.split():
                case ["progress", done, of]:
                    progress.tell("fetching", int(done), int(of) if of.isdigit() else None, "bytes")

        pause = 1.0
        for attempt in range(MAX_TRIES):
            target.unlink(missing_ok=True)
            try:
                printed = self.helpers.run(program, uid, self.work, hear)
                said = json.loads(printed.strip().splitlines()[-1])
            except TooLong as problem:
                raise Unfit("The download took longer than is allowed. Put the file on a faster server.") from problem
            except (Failed, ValueError, IndexError) as problem:
                raise Refused(f"the download failed: {problem}") from problem
            if "unfit" in said:
                raise Unfit(said["unfit"])
            if "failed" not in said:
                break
            if attempt == MAX_TRIES - 1:
                raise Unfit(f"The download failed {MAX_TRIES} times, the last time so: {said['failed']}.")
            self.work.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE)
        self._take(target, part)
        declared = source.get("sha256")
        if declared and file_sum(part, self.work) != declared:
            raise Unfit("The file at this address has another SHA-256 than was declared. Correct the one or the other.")

    def _take(self, made: Path, target: Path) -> None:
        """Make a file ours that a confined program wrote."""
        handle = folders.open_file(made)
        try:
            os.fchown(handle, os.geteuid(), os.getegid())
            os.fchmod(handle, 0o444)
        finally:
            os.close(handle)
        made.rename(target)

    # The result

    def _convert(self, tool: Tool, number: int, disk: Disk, found: Found, progress: "Progress") -> Facts:
        faults.reach("import.before_convert")
        made, ours = self.out / f"disk-{number}", self.folder / f"disk-{number}"
        ours.unlink(missing_ok=True)
        share = 100 / len(found.disks)
        format_ = str(self.spec["result"]["format"])

        def hear(percent: float) -> None:
            progress.tell("converting", round(share * (number + percent / 100), 1), 100, "percent")

        tool.convert(self.source, disk, format_, made, hear)
        self._take(made, ours)
        # Whoever broken out of the conversion has written it: it is looked at as the source was.
        again = tool.inspect(ours, format_, max(self._virtual_bytes, disk.virtual_bytes))
        if len(again.disks) != 1 or again.disks[0].virtual_bytes != disk.virtual_bytes or again.notes:
            raise Unfit("What came out of the conversion is not what went in: the file is damaged. Export it again.")
        faults.reach("import.after_convert")
        size, sha256 = ours.stat().st_size, file_sum(ours, self.work)
        path = f"/agent/v1/imports/{self.spec['id']}/files/{number}"
        self._patiently(lambda: self._store(path, ours, size, sha256, progress))
        ours.unlink()
        facts = {"role": "disk", "index": number, "sha256": sha256, "size": size, "format": format_}
        return facts | {"virtual_bytes": disk.virtual_bytes}

    def _store(self, path: str, file: Path, size: int, sha256: str, progress: "Progress") -> None:
        def pieces() -> Iterator[bytes]:
            done = 0
            for piece in read_pieces(file, self.work):
                done += len(piece)
                progress.tell("storing", done, size, "bytes")
                yield piece

        self.control_plane.upload(path, pieces(), size, sha256)

    def _patiently(self, act: Callable[[], None]) -> None:
        """Do something with the control plane, as often as it takes."""
        pause = 1.0
        while True:
            try:
                return act()
            except Unreachable:
                self.work.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)


class Progress:
    """Tells the control plane how far an import is, at most once a second. Nothing depends on it."""

    def __init__(self, of: Import) -> None:
        self._import = of
        self._told_at = 0.0
        self._phase = ""

    def tell(self, phase: str, done: float, of: int | None, unit: str) -> None:
        now = time.monotonic()
        if phase == self._phase and now - self._told_at < SECONDS_BETWEEN_PROGRESS:
            return
        self._phase, self._told_at = phase, now
        body = {"phase": phase, "done": done, "of": of, "unit": unit}
        path = f"/agent/v1/imports/{self._import.spec['id']}/progress"
        with contextlib.suppress(Unreachable):
            self._import.control_plane.tell("PUT", path, json=body, ignored=(404, 405, 409, 410))


def described(found: Found) -> Facts:
    """What was found, for the control plane."""
    disks = [{key: getattr(disk, key) for key in ("name", "format", "virtual_bytes")} for disk in found.disks]
    return {
        "format": found.format,
        "virtual_bytes": sum(disk.virtual_bytes for disk in found.disks),
        "disks": disks,
        "notes": list(found.notes),
        "machine": asdict(found.machine) if found.machine else None,
    }


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
