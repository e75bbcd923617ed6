"""One import of an image on this host: fetch what a tenant gave, inspect it, convert it, store the result."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from agent import faults, folders
from agent.errors import Refused, Unreachable
from storage import uefi
from storage.agent import unpacking
from storage.agent.confined import (
    FETCHING,
    FOR_THE_NETWORK,
    HELPERS,
    Bounds,
    Failed,
    Program,
    TooLong,
    View,
    own_python,
    python,
)
from storage.agent.conversion import Tool, check_room
from storage.agent.image_work import MAX_PAUSE, Facts, ImageWork, Progress, file_sum
from storage.agent.inspection.common import Found, Unfit

MAX_TRIES = 5  # of a download from an unknown server
DEFAULT_MAX_BYTES = 64 << 30
DEFAULT_MAX_SECONDS = 6 * 3600

faults.declare("import.before_fetch", "import.after_fetch", "import.after_unpack")


class Import(ImageWork):
    """What comes in is in `source` of its folder: once that is whole, it is not fetched again."""

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def places(self) -> int:
        return FETCHING if self.spec["source"]["kind"] == "url" else HELPERS

    def make(self, tool: Tool, progress: Progress) -> Facts:
        if folders.status(self.source) is None:
            self._fetch(tool, progress)
        if unpacking.compression(self.source):
            self._unpack(tool, progress)
        progress.tell("inspecting", 0, None, "bytes")
        found = tool.inspect(self.source, self.spec.get("declared_format"), self.virtual_bytes)
        # What is declared as a raw disk is one, also where it could be a CD.
        is_cdrom = found.format == "iso" and self.spec.get("declared_format") != "raw"
        role, format_ = ("cdrom", "raw") if is_cdrom else ("disk", str(self.spec["result"]["format"]))
        files = []
        total, before = sum(disk.virtual_bytes for disk in found.disks), 0
        for number, disk in enumerate(found.disks):
            hear = progress.of_conversion(before, disk.virtual_bytes, total)
            before += disk.virtual_bytes
            made = self.folder / f"disk-{number}"
            self.convert(tool, self.source, disk, made, format_=format_, hear=hear)
            stored = self.store(number, made, progress)
            files.append({"role": role, "format": format_, "virtual_bytes": disk.virtual_bytes, **stored})
        settings = uefi.from_text(found.uefi) if found.uefi else None
        files += self.store_uefi(len(files), settings, progress)
        return {"found": described(found), "files": files}

    def _fetch(self, tool: Tool, progress: Progress) -> None:
        faults.reach("import.before_fetch")
        source, part = self.spec["source"], self.folder / "source.part"
        part.unlink(missing_ok=True)
        if source["kind"] == "upload":
            self.patiently(lambda: self._receive(part, progress))
        elif source["kind"] == "url":
            self._download(tool, part, progress)
        else:
            raise Refused(f"this host does not know sources of the kind {source['kind']}")
        part.chmod(0o444)
        part.rename(self.source)
        faults.reach("import.after_fetch")

    def _unpack(self, tool: Tool, progress: Progress) -> None:
        """Put what a compressed file holds in its place. What is compressed twice, the inspection refuses."""
        size = self.source.stat().st_size
        made = self.out / "unpacked"
        made.unlink(missing_ok=True)
        tool.unpack(self.source, made, self.virtual_bytes, lambda done: progress.tell("unpacking", done, size, "bytes"))
        self.take(made, self.source)
        faults.reach("import.after_unpack")

    def _receive(self, part: Path, progress: Progress) -> None:
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

    def _download(self, tool: Tool, part: Path, progress: Progress) -> None:
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
                printed = self.helpers.run(program, tool.uid, self.work, hear)
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
        self.take(target, part)
        declared = source.get("sha256")
        if declared and file_sum(part, self.work) != declared:
            raise Unfit("The file at this address has another SHA-256 than was declared. Correct the one or the other.")


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
