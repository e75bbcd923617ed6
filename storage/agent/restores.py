"""The lowest layer of a volume that begins with a backup: fetched block by block, each looked at before it counts."""

import os
from pathlib import Path
from typing import Any

from agent import faults, folders
from agent.control_plane import ControlPlane
from agent.errors import Refused, Unreachable
from agent.work import Work
from storage.agent.blocks import BLOCK_BYTES, BLOCKS_IN_PART, MAX_PACKED_BYTES, NotABlock, digest_of, unpack
from storage.agent.conversion import check_room
from storage.agent.image_work import patiently

faults.declare("restore.before_block")


class Restore:
    """One at work. `layer_id`: the layer that is filled."""

    def __init__(self, control_plane: ControlPlane, layer_id: str, work: Work) -> None:
        self._control_plane, self._layer_id, self._work = control_plane, layer_id, work

    def write(self, target: Path, parts: int) -> None:
        """Write `parts` GiB into a new sparse file. Raises Refused, Abandoned or OSError."""
        key = bytes.fromhex(str(self._ask()["key"]))
        with folders.create_file(target) as file:
            os.truncate(file.fileno(), parts * BLOCKS_IN_PART * BLOCK_BYTES)
            for number in range(parts):
                digests = self._ask("parts", str(number))["digests"]
                if len(digests) != BLOCKS_IN_PART:
                    raise Refused("the control plane does not say what is in a part of the backup")
                for index, digest in enumerate(digests):
                    if digest:
                        check_room(target.parent, BLOCK_BYTES)
                        faults.reach("restore.before_block")
                        file.seek((number * BLOCKS_IN_PART + index) * BLOCK_BYTES)
                        file.write(self._fetch(str(digest), key))

    def _path(self, *more: str) -> str:
        return "/".join(("/agent/v1/restores", self._layer_id, *more))

    def _ask(self, *more: str) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        patiently(self._work, lambda: answer.update(self._control_plane.ask("GET", self._path(*more))))
        return answer

    def _fetch(self, digest: str, key: bytes) -> bytes:
        """A block, which is what its digest says. Raises Refused for one that is damaged."""
        packed = bytearray()

        def receive() -> None:
            packed.clear()
            with self._control_plane.download(self._path("blocks", digest), "block of this backup") as pieces:
                for piece in pieces:
                    self._work.check()
                    packed.extend(piece)
                    if len(packed) > MAX_PACKED_BYTES:
                        raise Unreachable("more was received than a block may have")

        patiently(self._work, receive)
        try:
            block = unpack(bytes(packed))
        except NotABlock as problem:
            raise Refused(f"a block of the backup is damaged: {problem}") from problem
        if digest_of(block, key) != digest:
            raise Refused("a block of the backup is damaged: it is not what was backed up")
        return block
