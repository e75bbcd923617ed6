"""One backup of a volume on this host: what is on it at one moment, cut into blocks; the store gets those it has not.

The active layer is copied first, by the machine that has it open if one has. Then the copy, with all that it lies on,
is read one GiB after the other: each part of it is a small sparse file for a while, so no second disk needs room.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import faults, folders
from agent.durability import sync_file
from agent.errors import OPERATOR, Refused
from agent.system import MIN_FREE_BYTES
from storage.agent import qcow2, qemu_img
from storage.agent.blocks import BLOCK_BYTES, BLOCKS_IN_PART, ZEROS, digest_of, pack
from storage.agent.captures import COPIED, Capture, Chain
from storage.agent.conversion import Tool
from storage.agent.image_work import Facts, Progress
from storage.agent.inspection.common import Unfit

PART_BYTES = BLOCK_BYTES * BLOCKS_IN_PART
FILESYSTEM = "filesystem"
NOTE, MAX_NOTE = "copied.json", 1 << 20  # a file of its folder: what the disk lies on, once it is copied

faults.declare("backup.after_copy", "backup.before_part", "backup.before_block")


@dataclass(frozen=True)
class Backup(Capture):
    """`source`: {"kind": "volume", "volume": its id, "holder": {"type", "id"} or null, "layers": [ids, the lowest
    first], "base": a file of an image or null, "sealed": whether nobody writes these any more}; in Ceph that is one
    layer, which is kept.
    `size_gib`: how much of it there is.
    """

    attempt: str = field(default_factory=lambda: str(uuid.uuid4()))

    def make(self, tool: Tool, progress: Progress) -> Facts:
        chain, consistency = self._chain(progress)
        size = int(self.spec["size_gib"]) << 30
        there = self.size_of(chain)
        if there < size:
            raise Refused(f"the volume has {there >> 30} GiB on this host, and should have {size >> 30}")
        faults.reach("backup.after_copy")
        key = bytes.fromhex(self.ask_patiently("GET", self._path())["key"])
        added = 0
        for number in range(size // PART_BYTES):
            progress.tell("backing up", number << 30, size, "bytes")
            faults.reach("backup.before_part")
            part = self._read_part(tool, chain, number)
            added += self._send_part(part, number, key)
            part.unlink()
        return {"run": self.attempt, "parts": size // PART_BYTES, "consistency": consistency, "sent_bytes": added}

    def _path(self, *more: str) -> str:
        return "/".join(("/agent/v1/backups", str(self.spec["id"]), *more))

    def _chain(self, progress: Progress) -> tuple[Chain, str]:
        """Reuse what an earlier worker has copied: the volume may be in use again by now."""
        if self.in_ceph:
            return [], ""
        note = self.folder / NOTE
        if folders.status(note) is None:
            source = self.spec["source"]
            if source["holder"] is not None:
                machine = {"type": source["holder"]["type"], "machine": source["holder"]["id"]}
                chain, consistency = self._of_machine(machine, progress, volume=str(source["volume"]))
            else:
                chain, consistency = self._of_detached(source)
            _note(note, chain, consistency)
        said = json.loads(folders.read_file(note, MAX_NOTE))
        chain = [(Path(path), format_) for path, format_ in said["chain"]]
        if lost := [path for path, _ in chain if folders.status(path) is None]:
            raise Refused(f"a part of the volume is not on its host any more ({lost[0].stem})")
        return chain, said["consistency"]

    def _of_detached(self, source: Mapping[str, Any]) -> tuple[Chain, str]:
        """No process writes it, and none gets it before the control plane knows that it is copied."""
        chain, _ = self._of_layers(source)
        if source.get("sealed"):
            return chain, FILESYSTEM
        path, format_ = chain[-1]
        copied = self.folder / COPIED
        copied.unlink(missing_ok=True)
        folders.copy_file(path, copied, min_free=MIN_FREE_BYTES)
        sync_file(copied)
        return [*chain[:-1], (copied, format_)], FILESYSTEM

    def _read_part(self, tool: Tool, chain: Chain, number: int) -> Path:
        """One GiB of the disk as a sparse file of ours."""
        made = self.folder / "part"
        made.unlink(missing_ok=True)
        with self.opened(chain, tool.uid) as parts:
            tool.cut(parts, number * PART_BYTES, PART_BYTES, self.out / made.name)
        self.take(self.out / made.name, made)
        if made.stat().st_size != PART_BYTES:
            raise Unfit(
                "What was read of the volume is not as long as it should be: its disk is damaged.", fix_by=OPERATOR
            )
        return made

    def _send_part(self, part: Path, number: int, key: bytes) -> int:
        """Say what is in it, and send the blocks that the store has not. How many bytes that were."""
        digests = []
        for block in blocks_of(part):
            self.work.check()
            digests.append(digest_of(block, key))
        body = {"run": self.attempt, "digests": digests}
        answer = self.ask_patiently("PUT", self._path("parts", str(number)), body)
        sent = 0
        with os.fdopen(folders.open_file(part), "rb") as file:
            for index in answer["missing"]:
                self.work.check()
                faults.reach("backup.before_block")
                file.seek(int(index) * BLOCK_BYTES)
                packed = pack(file.read(BLOCK_BYTES))
                self.send(self._path("files", str(number * BLOCKS_IN_PART + int(index))), packed)
                sent += len(packed)
        return sent


def _note(note: Path, chain: Chain, consistency: str) -> None:
    """Write down that all is copied."""
    new = note.with_suffix(".new")
    new.unlink(missing_ok=True)
    with folders.create_file(new) as file:
        said = {"chain": [(os.fspath(path), format_) for path, format_ in chain], "consistency": consistency}
        file.write(json.dumps(said).encode())
    new.rename(note)


def size_of(path: Path, format_: str) -> int:
    """The bytes that a guest sees of a layer. Raises Refused."""
    return qcow2.size_of_layer(path) if format_ == qemu_img.QCOW2 else path.stat().st_size


def blocks_of(part: Path, parts: int = 1) -> Iterator[bytes]:
    """All blocks of a sparse file of so many GiB; its holes are not read."""
    handle = folders.open_file(part)
    try:
        data = -1  # where the next data begins
        for offset in range(0, parts * PART_BYTES, BLOCK_BYTES):
            if data < offset:
                data = _next_data(handle, offset, parts * PART_BYTES)
            yield os.pread(handle, BLOCK_BYTES, offset) if data < offset + BLOCK_BYTES else ZEROS
    finally:
        os.close(handle)


def _next_data(handle: int, offset: int, end: int) -> int:
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError:  # ENXIO: nothing but a hole is left
        return end
