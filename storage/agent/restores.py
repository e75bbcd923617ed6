"""A backup as a file: the lowest layer of a volume that begins with it, or the file of a drill. It is fetched block by
block, and each is looked at before it counts."""

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from agent import faults, folders
from agent.control_plane import ControlPlane
from agent.errors import Refused, Unreachable
from agent.work import Work
from storage.agent.blocks import BLOCK_BYTES, BLOCKS_IN_PART, MAX_PACKED_BYTES, NotABlock, digest_of, unpack
from storage.agent.conversion import check_room
from storage.agent.image_work import patiently

faults.declare("restore.before_block")
PART_BYTES = BLOCKS_IN_PART * BLOCK_BYTES


class DamagedBlock(Refused):
    """The store has a block no more, or another one in its place."""


class Restore:
    """One at work. `id`: of the layer that is filled, or of the drill. `digests`: of what has been written."""

    def __init__(self, control_plane: ControlPlane, id: str, work: Work, *, of: str = "restores") -> None:  # noqa: A002
        self._control_plane, self._work = control_plane, work
        self._base = f"/agent/v1/{of}/{id}"
        self.digests: list[str] = []

    @cached_property
    def key(self) -> bytes:
        """Under which its blocks are known."""
        return bytes.fromhex(str(self._ask()["key"]))

    def write(self, target: Path, parts: int, hear: Callable[[int], None] = lambda part: None) -> None:
        """Write `parts` GiB into a new sparse file. `hear` is told which GiB begins.

        Raises DamagedBlock, Refused, Abandoned or OSError.
        """
        with folders.create_file(target) as file:
            os.truncate(file.fileno(), parts * PART_BYTES)
            for number in range(parts):
                hear(number)
                self._write_part(file, target.parent, number, at=number * PART_BYTES)

    def write_part(self, target: Path, number: int) -> None:
        """Write one GiB of it into a new sparse file. Raises the same."""
        with folders.create_file(target) as file:
            os.truncate(file.fileno(), PART_BYTES)
            self._write_part(file, target.parent, number, at=0)

    def _write_part(self, file: IO[bytes], folder: Path, number: int, *, at: int) -> None:
        digests = self._ask("parts", str(number))["digests"]
        if len(digests) != BLOCKS_IN_PART:
            raise Refused("the control plane does not say what is in a part of the backup")
        for index, digest in enumerate(digests):
            if digest:
                check_room(folder, BLOCK_BYTES)
                faults.reach("restore.before_block")
                file.seek(at + index * BLOCK_BYTES)
                file.write(self._fetch(str(digest)))
        self.digests += map(str, digests)

    def _path(self, *more: str) -> str:
        return "/".join((self._base, *more))

    def _ask(self, *more: str) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        patiently(self._work, lambda: answer.update(self._control_plane.ask("GET", self._path(*more))))
        return answer

    def _fetch(self, digest: str) -> bytes:
        """A block, which is what its digest says. Raises DamagedBlock."""
        packed = bytearray()

        def receive() -> None:
            packed.clear()
            with self._control_plane.download(self._path("blocks", digest), "block of this backup") as pieces:
                for piece in pieces:
                    self._work.check()
                    packed.extend(piece)
                    if len(packed) > MAX_PACKED_BYTES:
                        raise Unreachable("more was received than a block may have")

        try:
            patiently(self._work, receive)
        except Refused as missing:
            raise DamagedBlock("a block of the backup is missing in the store, or damaged there") from missing
        try:
            block = unpack(bytes(packed))
        except NotABlock as problem:
            raise DamagedBlock(f"a block of the backup is damaged: {problem}") from problem
        if digest_of(block, self.key) != digest:
            raise DamagedBlock("a block of the backup is damaged: it is not what was backed up")
        return block
