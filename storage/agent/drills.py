"""One restore drill on this host: a backup is restored to a file, read back, looked at, and removed."""

import os
from dataclasses import dataclass
from pathlib import Path

from agent import faults
from agent.durability import sync_file
from agent.errors import OPERATOR, Refused
from storage.agent import filesystems
from storage.agent.backups import blocks_of
from storage.agent.blocks import BLOCKS_IN_PART, digest_of
from storage.agent.conversion import Tool
from storage.agent.image_work import Facts, ImageWork, Progress
from storage.agent.inspection.common import Unfit
from storage.agent.restores import DamagedBlock, Restore

faults.declare("drill.before_reading")


@dataclass(frozen=True)
class Drill(ImageWork):
    """`source`: {"kind": "backup", "size_gib"}. No other program sees the file."""

    def make(self, tool: Tool, progress: Progress) -> Facts:
        size_gib = int(self.spec["source"]["size_gib"])
        disk = self.folder / "disk"
        disk.unlink(missing_ok=True)
        restore = Restore(self.control_plane, str(self.spec["id"]), self.work, of="drills")
        try:
            restore.write(disk, size_gib, lambda part: progress.tell("restoring", part << 30, size_gib << 30, "bytes"))
        except DamagedBlock as damaged:
            raise Unfit(f"It cannot be restored: {damaged}.", fix_by=OPERATOR) from damaged
        sync_file(disk)
        faults.reach("drill.before_reading")
        self._read_back(disk, restore.digests, restore.key)
        return {"found": filesystems.found_on(disk), "blocks": sum(map(bool, restore.digests))}

    def _read_back(self, disk: Path, digests: list[str], key: bytes) -> None:
        """Compare what is on the disk with what was backed up. Raises Refused: another host may do better."""
        parts = len(digests) // BLOCKS_IN_PART
        if os.stat(disk).st_size != parts << 30:
            raise Refused("the file that it was restored to is not as long as it should be")
        for index, block in enumerate(blocks_of(disk, parts)):
            self.work.check()
            if digest_of(block, key) != digests[index]:
                raise Refused(f"block {index} was not read back as it was written: the disk of this host is damaged")
