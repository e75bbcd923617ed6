"""The kind `transfer`: one end of a move. A host sends files of volumes or of a stopped machine, another receives them.

Files travel as blocks through the control plane, numbered through all files: no host has a way to another one. Each
carries its own digest, made where it was read and looked at where it is written. Whoever dies goes on where it was:
nobody writes to these files meanwhile, so a block is the same whenever it is read.
"""

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import structlog

from agent import faults, folders
from agent.control_plane import ControlPlane
from agent.durability import sync_directory, sync_file
from agent.entries import Entry
from agent.errors import Refused, Unreachable
from agent.kinds import Kind, Sight, Tools
from agent.paths import Paths, make_passable
from agent.work import Work
from storage.agent import qcow2, qemu_img
from storage.agent.blocks import BLOCK_BYTES, MAX_PACKED_BYTES, NotABlock, pack, unpack
from storage.agent.conversion import check_room
from storage.agent.image_work import patiently

log = structlog.get_logger()

TYPE = "transfer"
FORMATS = (qemu_img.QCOW2, qemu_img.RAW)
WINDOW = 64  # blocks that wait at the control plane
BETWEEN_NOTES = 16  # blocks that are made durable at once
MAX_RUNS = 1000  # of a file; where it has more holes than that, the smallest are sent
MAX_FILE_BYTES = 1 << 46
SECONDS_TO_WAIT = 0.3
DIGEST_BYTES = 32
MAX_MESSAGE_BYTES = DIGEST_BYTES + MAX_PACKED_BYTES
PART = ".part"  # at the end of the name of a file that is not whole

faults.declare("transfer.before_block", "transfer.before_note", "transfer.before_whole", "transfer.before_remove")


class HasFiles(Protocol):
    """A kind whose resources have files that can be sent while nothing writes to them."""

    def find_file(self, resource_id: str, name: str) -> Path | None:
        """Where it is; its suffix is its format, unless that is raw. None: there is none, and need not be. Raises
        Refused."""


@dataclass(frozen=True)
class Content:
    """One file on its way. `runs`: [first block, how many] of what is no hole."""

    of: str
    id: str
    name: str
    format: str
    size: int
    runs: list[list[int]]

    @property
    def file_name(self) -> str:
        return file_name(self.of, self.id, self.name, self.format)


Place = tuple[Content, int]  # a block: of which file, and at which offset


def file_name(of: str, id_: str, name: str, format_: str) -> str:
    """As what a whole file waits on the target. Raises ValueError for an id that is none."""
    return f"{of}.{uuid.UUID(id_)}.{name}.{format_}".replace("/", "")


def folder_of(paths: Paths, transfer_id: str) -> Path:
    return paths.home / "transfers" / str(uuid.UUID(transfer_id))


def find(paths: Paths, transfer_id: str, of: str, id_: str, name: str) -> Path | None:
    """A file that a transfer has brought, all of it; None: it has brought none of this name."""
    for format_ in FORMATS:
        path = folder_of(paths, transfer_id) / file_name(of, id_, name, format_)
        if folders.status(path):
            return path
    return None


class Transfers(Kind):
    """Both ends. Their work may take hours, and stops nobody else."""

    type: ClassVar[str] = TYPE
    suffices: ClassVar[bool] = False
    is_slow: ClassVar[bool] = True
    verbs: ClassVar[dict[str, str]] = {"ensure_present": "present", "ensure_gone": "gone"}

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.directory = tools.paths.home / "transfers"
        make_passable(self.directory)

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        folder = folder_of(self._tools.paths, entry.id)
        if verb == "ensure_gone":
            faults.reach("transfer.before_remove")
            folders.remove(folder)
            return "gone", {}
        line = Line(self._tools.control_plane, entry.id, work)
        if entry.spec["role"] == "send":
            return "present", {"blocks": _send(entry.spec["files"], self._tools.kinds, line)}
        return "present", {"blocks": _receive(folder, line)}

    def strangers(self) -> Iterator[str]:
        for name in folders.names(self.directory):
            with contextlib.suppress(ValueError):
                yield str(uuid.UUID(name))

    def capabilities(self) -> dict[str, Any]:
        return {"transfers": True}

    def disk_bytes(self) -> int:
        within = [self.directory / one for one in self.strangers()]
        files = [folder / name for folder in within for name in folders.names(folder)]
        return sum(found.st_blocks * 512 for file in files if (found := folders.status(file)))


@dataclass(frozen=True)
class Line:
    """What the control plane knows of one transfer."""

    control_plane: ControlPlane
    id: str
    work: Work

    def path(self, *more: str) -> str:
        return "/".join(("/agent/v1/transfers", self.id, *more))

    def look(self) -> dict[str, Any]:
        """{"files", "sent", "fetched"}. Raises Refused once it is not wanted any more, Abandoned."""
        answer: dict[str, Any] = {}
        self.patiently(lambda: answer.update(self.control_plane.ask("GET", self.path())))
        return answer

    def tell(self, name: str, **what: Any) -> None:
        self.patiently(lambda: self.control_plane.tell("PUT", self.path(name), json=what))

    def patiently(self, act: Callable[[], None]) -> None:
        patiently(self.work, act)


# The end that sends


def _send(files: list[dict[str, str]], kinds: Mapping[str, Any], line: Line) -> int:
    """Send what has not been sent. How many blocks there are."""
    state = line.look()
    if state["files"] is None:
        line.tell("contents", files=[found for file in files if (found := _describe(file, kinds))])
        state = line.look()
    contents = [Content(**file) for file in state["files"]]
    places = list(_places(contents))
    with contextlib.ExitStack() as stack:
        handles = {}
        for one in contents:
            path = _path(one.of, one.id, one.name, kinds)
            if path is None:
                raise Refused(f"the file {one.name} that was to be sent is not there any more")
            handle = handles[one.file_name] = folders.open_file(path)
            stack.callback(os.close, handle)
        while state["sent"] < len(places):
            line.work.check()
            if state["sent"] >= state["fetched"] + WINDOW:
                line.work.sleep(SECONDS_TO_WAIT)
                state = line.look()
                continue
            content, offset = places[state["sent"]]
            faults.reach("transfer.before_block")
            state = _send_block(line, state, os.pread(handles[content.file_name], BLOCK_BYTES, offset))
    return len(places)


def _path(of: str, id_: str, name: str, kinds: Mapping[str, Any]) -> Path | None:
    kind = kinds.get(of)
    if not hasattr(kind, "find_file"):
        raise Refused(f"this host has no {of} whose files could be sent")
    return cast(HasFiles, kind).find_file(id_, name)


def _describe(file: dict[str, str], kinds: Mapping[str, Any]) -> dict[str, Any] | None:
    path = _path(file["of"], file["id"], file["name"], kinds)
    if path is None:
        return None
    handle = folders.open_file(path)
    try:
        size = os.fstat(handle).st_size
        runs = runs_of(handle, size)
    finally:
        os.close(handle)
    format_ = qemu_img.QCOW2 if path.suffix == f".{qemu_img.QCOW2}" else qemu_img.RAW
    return {**file, "format": format_, "size": size, "runs": runs}


def runs_of(handle: int, size: int) -> list[list[int]]:
    """Where a file has data: [[first block, how many]], at most MAX_RUNS of them."""
    found: list[list[int]] = []
    end = 0
    while end < size:
        try:
            start = os.lseek(handle, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            break
        end = min(size, os.lseek(handle, start, os.SEEK_HOLE))
        found.append([start // BLOCK_BYTES, -(-end // BLOCK_BYTES)])
    gap = 0
    while True:
        merged: list[list[int]] = []
        for first, behind in found:
            if merged and first - merged[-1][1] <= gap:
                merged[-1][1] = max(merged[-1][1], behind)
            else:
                merged.append([first, behind])
        if len(merged) <= MAX_RUNS:
            return [[first, behind - first] for first, behind in merged]
        found, gap = merged, 2 * gap + 1


def _places(contents: list[Content]) -> Iterator[Place]:
    for content in contents:
        for first, count in content.runs:
            for block in range(first, first + count):
                yield content, block * BLOCK_BYTES


def _send_block(line: Line, state: dict[str, Any], block: bytes) -> dict[str, Any]:
    """Send the next block. How far it is then."""
    block = block.ljust(BLOCK_BYTES, b"\0")
    message = hashlib.sha256(block).digest() + pack(block)
    sha256 = hashlib.sha256(message).hexdigest()
    number = state["sent"]
    try:
        line.control_plane.upload(line.path("files", str(number)), iter((message,)), len(message), sha256)
    except (Unreachable, Refused) as problem:  # it may have come all the same
        line.work.sleep(SECONDS_TO_WAIT)
        state = line.look()
        if isinstance(problem, Refused) and state["sent"] == number:
            raise
        return state
    return {**state, "sent": number + 1}


# The end that receives


def _receive(folder: Path, line: Line) -> int:
    """Fetch what has not been fetched, until all files are whole. How many blocks there are."""
    state = line.look()
    while state["files"] is None:
        line.work.sleep(SECONDS_TO_WAIT)
        state = line.look()
    contents = [Content(**file) for file in state["files"]]
    places = list(_places(contents))
    if not all(folders.status(folder / one.file_name) for one in contents):
        _make(folder, contents, is_new=not state["fetched"])
        _fetch_all(folder, places, state, line)
        faults.reach("transfer.before_whole")
        _make_whole(folder, contents)
    return len(places)


def _make(folder: Path, contents: list[Content], *, is_new: bool) -> None:
    folders.make_folder(folder, 0o700)
    for one in contents:
        path = folder / (one.file_name + PART)
        if folders.status(folder / one.file_name) or folders.status(path):
            continue
        if not is_new:
            raise Refused("what had come of it is not on this host any more")
        with folders.create_file(path) as file:
            os.truncate(file.fileno(), one.size)
        sync_file(path)
    sync_directory(folder)


def _fetch_all(folder: Path, places: list[Place], state: dict[str, Any], line: Line) -> None:
    noted = at = int(state["fetched"])
    while at < len(places):
        line.work.check()
        if at >= state["sent"]:
            noted = _note(folder, places[noted:at], line, at) if at > noted else noted
            state = line.look()
            if at >= state["sent"]:
                line.work.sleep(SECONDS_TO_WAIT)
            continue
        content, offset = places[at]
        check_room(folder, BLOCK_BYTES)
        _write(folder / (content.file_name + PART), offset, _fetch(line, at)[: content.size - offset])
        at += 1
        if at - noted >= BETWEEN_NOTES:
            noted = _note(folder, places[noted:at], line, at)
    if at > noted:
        _note(folder, places[noted:at], line, at)


def _note(folder: Path, written: list[Place], line: Line, fetched: int) -> int:
    """Make blocks durable, and say so: then they are nowhere else on the way."""
    for name in {content.file_name for content, _ in written}:
        sync_file(folder / (name + PART))
    faults.reach("transfer.before_note")
    line.tell("fetched", fetched=fetched)
    return fetched


def _fetch(line: Line, number: int) -> bytes:
    """A block, which is what its digest says. Raises Refused for one that is damaged."""
    message = bytearray()

    def receive() -> None:
        message.clear()
        with line.control_plane.download(line.path("files", str(number)), "block of this transfer") as pieces:
            for piece in pieces:
                line.work.check()
                message.extend(piece)
                if len(message) > MAX_MESSAGE_BYTES:
                    raise Unreachable("more was received than a block may have")

    line.patiently(receive)
    try:
        block = unpack(bytes(message[DIGEST_BYTES:]))
    except NotABlock as problem:
        raise Refused(f"a block was damaged on its way: {problem}") from problem
    if hashlib.sha256(block).digest() != bytes(message[:DIGEST_BYTES]):
        raise Refused("a block was damaged on its way: it is not what was sent")
    return block


def _write(path: Path, offset: int, block: bytes) -> None:
    with os.fdopen(folders.open_file(path, os.O_WRONLY), "r+b", buffering=0) as file:
        file.seek(offset)
        file.write(block)


def _make_whole(folder: Path, contents: list[Content]) -> None:
    """All files get their names. What its source calls a layer must look like one that we make."""
    for one in contents:
        path = folder / (one.file_name + PART)
        if folders.status(path):
            if one.format == qemu_img.QCOW2:
                qcow2.size_of_layer(path)
            sync_file(path)
            path.rename(folder / one.file_name)
    sync_directory(folder)
