"""One export of an image on this host: its disks in another format, or all of it as an OVA, back into the store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import folders
from agent.errors import YOU, Refused
from storage import uefi
from storage.agent import appliance
from storage.agent.conversion import Tool, check_room
from storage.agent.image_cache import ImageCache
from storage.agent.image_work import Facts, ImageWork, Progress
from storage.agent.inspection.common import Disk

FORMATS = ("qcow2", "raw", "vdi", "vmdk", "vhdx", "ova")


@dataclass(frozen=True)
class Export(ImageWork):
    """The image's files come from the host's cache, where they are never written."""

    images: ImageCache

    def make(self, tool: Tool, progress: Progress) -> Facts:
        format_ = str(self.spec["result"]["format"])
        if format_ not in FORMATS:
            raise Refused(f"images are not exported as {format_}: formats are {', '.join(FORMATS)}", fix_by=YOU)
        progress.tell("fetching", 0, None, "bytes")
        sources = [(self._fetch(file), file) for file in self.spec["source"]["files"] if file["role"] == "disk"]
        if not sources:
            raise Refused("this image has no disk that could be exported", fix_by=YOU)
        inside = "vmdk" if format_ == "ova" else format_
        disks = [tool.inspect(source, file["format"], self.virtual_bytes).disks[0] for source, file in sources]
        total, before = sum(disk.virtual_bytes for disk in disks), 0
        made: list[tuple[Path, Disk]] = []
        for number, (disk, (source, _)) in enumerate(zip(disks, sources, strict=True)):
            hear = progress.of_conversion(before, disk.virtual_bytes, total)
            before += disk.virtual_bytes
            target = self.folder / f"disk-{number}"
            self.convert(tool, source, disk, target, format_=inside, hear=hear)
            made.append((target, disk))
        if format_ == "ova":
            made = [(self._pack(made), made[0][1])]
        files = []
        for number, (path, disk) in enumerate(made):
            facts = {"role": "export", "format": format_, "virtual_bytes": disk.virtual_bytes}
            files.append({**facts, **self.store(number, path, progress)})
        return {"files": files}

    def _fetch(self, file: dict[str, Any]) -> Path:
        return self.images.fetch(file, self.work)

    def _settings(self) -> str:
        """What UEFI has kept for it, as text; "" for none."""
        for file in self.spec["source"]["files"]:
            if file["role"] == uefi.ROLE:
                return uefi.to_text(folders.read_file(self._fetch(file), uefi.MAX_BYTES))
        return ""

    def _pack(self, disks: list[tuple[Path, Disk]]) -> Path:
        target = self.folder / "appliance"
        target.unlink(missing_ok=True)
        check_room(self.folder, sum(path.stat().st_size for path, _ in disks))
        files = [appliance.DiskFile(path, disk.virtual_bytes) for path, disk in disks]
        machine = {**self.spec["machine"], "uefi": self._settings()}
        appliance.write(target, machine, files, self.work.check)
        for path, _ in disks:
            path.unlink()
        return target
