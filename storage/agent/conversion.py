"""Disks turned from one format into another by qemu-img, confined; before and after, what is in them is inspected."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import folders
from agent.errors import Refused
from agent.system import MIN_FREE_BYTES
from agent.work import Work
from storage.agent import qemu_img, unpacking
from storage.agent.confined import Bounds, Failed, Helpers, Program, TooLong, View, own_python, python
from storage.agent.inspection.common import MIB, Disk, Examined, Found, Limits, Machine, Unfit, Window, size_words
from storage.agent.inspection.readers import READERS

DRIVERS = {"qcow2": "qcow2", "raw": "raw", "iso": "raw", "vdi": "vdi", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}
# What VMware and VirtualBox import: one compressed stream, for a controller that both have.
OPTIONS = {
    "vmdk": "subformat=streamOptimized,adapter_type=lsilogic",
    "qcow2": "compat=1.1",
    "vhdx": "subformat=dynamic",
}
MAX_RATIO = 100  # of what a disk holds to the file that it came in
SPARE_BYTES = 64 * MIB  # for tables, and for small files that unpack well
SECONDS_TO_INSPECT = 900.0  # a manifest's sums are of all that is in an archive
MIN_BYTES_PER_SECOND = 8 * MIB

Parts = Sequence[tuple[Path | int, str]]  # files or connections (NBD), each with its format, the lowest first

_PERCENT = re.compile(r"\((\d+\.\d+)/100%\)")


@dataclass(frozen=True)
class Tool:
    """The confined programs of one import: `uid` is theirs, `folder` where they may write."""

    helpers: Helpers
    uid: int | None
    folder: Path
    work: Work

    def inspect(self, source: Path, declared: str | None, virtual_bytes: int) -> Found:
        """What is in a file. Raises Unfit, Refused or Abandoned."""
        line = python("storage.agent.inspection", os.fspath(source), declared or "-", str(virtual_bytes))
        program = Program(line, Bounds(SECONDS_TO_INSPECT), View(readable=(*own_python(), source)))
        try:
            said = json.loads(self.helpers.run(program, self.uid, self.work))
        except TooLong as problem:
            raise Unfit(
                "It takes too long to look through it. Make it smaller, or export it without a manifest."
            ) from problem
        except (Failed, ValueError) as problem:
            raise Refused(f"the inspection of the file failed: {problem}") from problem
        if "unfit" in said:
            raise Unfit(said["unfit"])
        return found(said)

    def unpack(self, source: Path, target: Path, virtual_bytes: int, hear: Callable[[int], None]) -> None:
        """Write what a compressed file holds into a new file; `hear` gets the bytes of `source` that are done. Raises
        Unfit, Refused or Abandoned."""
        line = python("storage.agent.unpacking", os.fspath(source), os.fspath(target), str(virtual_bytes))
        bounds = Bounds(600 + source.stat().st_size / MIB, file_bytes=unpacking.max_bytes(virtual_bytes) + MIB)
        view = View(readable=(*own_python(), source), writable=(self.folder,))
        check_room(self.folder)

        def listen(line: str) -> None:
            check_room(self.folder)
            match line.split():
                case ["progress", done, _]:
                    hear(int(done))

        try:
            printed = self.helpers.run(Program(line, bounds, view), self.uid, self.work, listen)
            said = json.loads(printed.strip().splitlines()[-1])
        except TooLong as problem:
            raise Unfit("It takes too long to unpack it. Upload it as qcow2, not compressed as a whole.") from problem
        except (Failed, ValueError, IndexError) as problem:
            raise Refused(f"the file could not be unpacked: {problem}") from problem
        if "unfit" in said:
            raise Unfit(said["unfit"])

    def convert(self, source: Path, disk: Disk, format_: str, target: Path, hear: Callable[[float], None]) -> None:
        """Write a disk into a new file of a format; `hear` gets the percentage. Raises Unfit, Refused or Abandoned."""
        most = min(disk.virtual_bytes, disk.size * MAX_RATIO) + disk.virtual_bytes // 1000 + SPARE_BYTES
        limit = disk.virtual_bytes + SPARE_BYTES if format_ == "raw" else most
        bounds = Bounds(600 + disk.virtual_bytes / MIN_BYTES_PER_SECOND, file_bytes=limit)
        check_room(self.folder)

        def listen(line: str) -> None:
            check_room(self.folder)
            if match := _PERCENT.search(line):
                hear(float(match[1]))

        view = View(readable=(source,), writable=(self.folder,))
        program = Program(argv(source, disk, format_, target), bounds, view)
        try:
            self.helpers.run(program, self.uid, self.work, listen)
        except TooLong as problem:
            raise Unfit(
                "It takes too long to convert it. Make the disk smaller, or convert it to qcow2 first."
            ) from problem
        except Failed as problem:
            written = folders.status(target)
            if written and written.st_size >= limit - MIB:
                raise Unfit(
                    f"It unpacks to more than {MAX_RATIO} times its size ({size_words(disk.size)}). "
                    "Upload it less compressed, as qcow2 or raw."
                ) from problem
            raise Unfit(
                f"It cannot be read to its end: it is damaged. Export it again. ({words_of(problem)})"
            ) from problem

    def flatten(self, chain: Parts, virtual_bytes: int, target: Path, hear: Callable[[float], None]) -> None:
        """Write files of ours that lie on each other, the lowest first, into one compressed qcow2. Raises Refused or
        Abandoned."""
        check_room(self.folder)

        def listen(line: str) -> None:
            check_room(self.folder)
            if match := _PERCENT.search(line):
                hear(float(match[1]))

        most = virtual_bytes + virtual_bytes // 1000 + SPARE_BYTES
        bounds = Bounds(600 + virtual_bytes / MIN_BYTES_PER_SECOND, file_bytes=most)
        view = View(readable=files_of(chain), writable=(self.folder,))
        program = Program(argv_of_chain(chain, target), bounds, view, descriptors=connections_of(chain))
        try:
            self.helpers.run(program, self.uid, self.work, listen)
        except (Failed, TooLong) as problem:
            raise Refused(f"the disk could not be copied: {words_of(problem)}") from problem

    def merge(
        self,
        run: list[tuple[Path, str]],
        below: list[tuple[Path, str]],
        target: Path,
        virtual_bytes: int,
        hear: Callable[[float], None],
    ) -> None:
        """Write what files of ours that lie on each other have of their own, the lowest first, into an empty qcow2 that
        lies on `below` as they do; `hear` gets the percentage. Raises Refused or Abandoned."""
        nothing = target.with_suffix(".nothing")
        qemu_img.run(qemu_img.create(nothing, virtual_bytes))
        folders.give_file(nothing, self.uid, 0o600)
        most = virtual_bytes + virtual_bytes // 1000 + SPARE_BYTES
        bounds = Bounds(600 + virtual_bytes / MIN_BYTES_PER_SECOND, file_bytes=most)
        view = View(readable=tuple(path for path, _ in (*below, *run)), writable=(self.folder,))
        for number, command in enumerate(argvs_of_merge(run, below, target, nothing)):

            def listen(line: str, before: int = number) -> None:
                check_room(self.folder)
                if match := _PERCENT.search(line):
                    hear((before * 100 + float(match[1])) / len(run))

            check_room(self.folder)
            try:
                self.helpers.run(Program(command, bounds, view), self.uid, self.work, listen)
            except (Failed, TooLong) as problem:
                raise Refused(f"the layers could not be merged: {words_of(problem)}") from problem

    def send(self, source: Path, format_: str, virtual_bytes: int, connection: int, *, offset: int = 0) -> None:
        """Write what a file has to an empty place of the image behind a connection (NBD). Raises Refused or
        Abandoned."""
        bounds = Bounds(600 + virtual_bytes / MIN_BYTES_PER_SECOND)
        argv = argv_of_sending(source, format_, connection, offset, virtual_bytes)
        program = Program(argv, bounds, View(readable=(source,)), descriptors=(connection,))
        try:
            self.helpers.run(program, self.uid, self.work)
        except (Failed, TooLong) as problem:
            raise Refused(f"the disk could not be sent: {words_of(problem)}") from problem

    def cut(self, chain: Parts, offset: int, size: int, target: Path) -> None:
        """Write a part of what files of ours have together, the lowest first, into a sparse raw file. Raises Refused or
        Abandoned."""
        check_room(self.folder)
        bounds = Bounds(600 + size / MIN_BYTES_PER_SECOND, file_bytes=size + SPARE_BYTES)
        view = View(readable=files_of(chain), writable=(self.folder,))
        program = Program(argv_of_part(chain, offset, size, target), bounds, view, descriptors=connections_of(chain))
        try:
            self.helpers.run(program, self.uid, self.work, lambda line: check_room(self.folder))
        except (Failed, TooLong) as problem:
            raise Refused(f"the disk could not be read: {words_of(problem)}") from problem


@contextlib.contextmanager
def connected(connect: Callable[[], int]) -> Iterator[int]:
    """A connection for one program, which is closed afterwards."""
    connection = connect()
    try:
        yield connection
    finally:
        os.close(connection)


def examine_result(path: Path, format_: str, limit: int) -> Examined:
    """Look at what a conversion wrote, which may have been taken over by what it read. Raises Unfit or OSError."""
    handle = folders.open_file(path)
    try:
        return READERS[format_](Window.of(handle), Limits(limit))
    finally:
        os.close(handle)


def argv(source: Path, disk: Disk, format_: str, target: Path) -> list[str]:
    """The command line of a conversion. Both formats are said, and nothing in a header names a file."""
    file: dict[str, Any] = {"driver": "file", "filename": os.fspath(source)}
    if disk.offset or disk.name:
        file = {"driver": "raw", "offset": disk.offset, "size": disk.size, "file": file}
    node: dict[str, Any] = {"driver": DRIVERS[disk.format], "file": file}
    if disk.format in ("qcow2", "vmdk"):
        node["backing"] = None
    options = ["-o", OPTIONS[format_]] if format_ in OPTIONS else []
    source_words = "json:" + json.dumps(node, sort_keys=True)
    return ["qemu-img", "convert", "-p", "-O", DRIVERS[format_], *options, source_words, os.fspath(target)]


def argv_of_chain(chain: Parts, target: Path) -> list[str]:
    """The command line that makes one file of several."""
    source = "json:" + json.dumps(node_of_chain(chain), sort_keys=True)
    return ["qemu-img", "convert", "-p", "-c", "-O", "qcow2", "-o", OPTIONS["qcow2"], source, os.fspath(target)]


def argv_of_part(chain: Parts, offset: int, size: int, target: Path) -> list[str]:
    """The command line that makes a raw file of a part of several files."""
    node = {"driver": "raw", "offset": offset, "size": size, "file": node_of_chain(chain)}
    source = "json:" + json.dumps(node, sort_keys=True)
    return ["qemu-img", "convert", "-O", "raw", source, os.fspath(target)]


def argv_of_sending(source: Path, format_: str, connection: int, offset: int, size: int) -> list[str]:
    """The command line that writes a file to an empty place of the image behind a connection."""
    image = {"driver": "raw", "offset": offset, "size": size, "file": _over_connection(connection)}
    words = ["json:" + json.dumps(node, sort_keys=True) for node in (
        node_of_chain([(source, format_)]), image)]  # fmt: skip
    return ["qemu-img", "convert", "-n", "--target-is-zero", "-O", "raw", *words]


def argvs_of_merge(
    run: list[tuple[Path, str]], below: list[tuple[Path, str]], target: Path, nothing: Path
) -> list[list[str]]:
    """The command lines that write several files into an existing one, one after the other from the lowest on.

    Each is read over an empty file as long as the target, `nothing`: so with -B only what it has itself is written,
    zeros as well. Only the lowest of all can be raw, over nothing: where it has a hole the empty target has one, too.
    """
    onto = "json:" + json.dumps(node_of_chain([*below, (target, "qcow2")]), sort_keys=True)
    commands = []
    for path, format_ in run:
        how = ["--target-is-zero"] if format_ == "raw" else ["-B", os.fspath(nothing)]
        source = "json:" + json.dumps(node_of_chain([(nothing, "qcow2"), (path, format_)]), sort_keys=True)
        commands.append(["qemu-img", "convert", "-p", "-n", *how, "-O", "qcow2", source, onto])
    return commands


def node_of_chain(chain: Parts) -> dict[str, Any] | None:
    """A chain of files, the lowest first. Backing files are given explicitly; those in the headers are ignored."""
    node: dict[str, Any] | None = None
    for one, format_ in chain:
        file = _over_connection(one) if isinstance(one, int) else {"driver": "file", "filename": os.fspath(one)}
        below, node = node, {"driver": format_, "file": file}
        if format_ == "qcow2":
            node["backing"] = below
    return node


def _over_connection(connection: int) -> dict[str, Any]:
    return {"driver": "nbd", "server": {"type": "fd", "str": str(connection)}}


def files_of(chain: Parts) -> tuple[Path, ...]:
    return tuple(one for one, _ in chain if isinstance(one, Path))


def connections_of(chain: Parts) -> tuple[int, ...]:
    return tuple(one for one, _ in chain if isinstance(one, int))


def found(said: dict[str, Any]) -> Found:
    """What an inspection printed."""
    machine = Machine(**said["machine"]) if said["machine"] else None
    disks = tuple(Disk(**disk) for disk in said["disks"])
    return Found(said["format"], disks, tuple(said["notes"]), machine, said["uefi"])


def check_room(folder: Path, size: int = 0) -> None:
    """Raises Refused when the host's disk would be too full with `size` bytes more."""
    free = shutil.disk_usage(folder).free
    if free - size < MIN_FREE_BYTES:
        raise Refused(f"the host's disk has no room for this image: {free >> 20} MiB are free")


def words_of(problem: Exception) -> str:
    """What qemu-img said, without the paths of this host."""
    last = str(problem).strip().splitlines()[-1] if str(problem).strip() else "no words"
    return re.sub(r"(json:\{.*\}|/[\w./{}-]+)", "the file", last)[:200]
