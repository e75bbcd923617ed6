"""Volumes of this host that machines on other hosts have as disks: this is then a storage host.

Its admin says so, by the file `serves` of the agent's home: one line with the address at which other hosts reach this
one, and the ports that are for volumes, as in `10.0.0.5:10900-10999`.

Each volume that is attached has an emulator of its own without a machine, which has its layers open as the emulator of
a machine has them, and offers what is on them by NBD, over TLS with a key that is only for this attachment. It
outlives the worker. Whatever changes about the volume, a snapshot or its size, it is ended and started anew: machines
connect again by themselves, and what they had been told is written is on the disk (`writethrough`).

Source: QEMU Storage Daemon QMP Reference Manual, "Block device exports"; tcp(7).
"""

import hashlib
import ipaddress
import json
import os
import platform
import re
import shutil
import socket
import threading
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from agent import emulators, faults, folders, system
from agent.errors import NoAnswer, Refused
from agent.jail import UIDS, Jail, first_uid
from agent.ledger import Ledger
from agent.paths import Paths, make_passable
from agent.processes import Process, tail
from agent.spawn import spawn
from storage.agent.confined import USERS
from storage.agent.nbd import creds, write_key
from storage.agent.qemu_img import QCOW2

log = structlog.get_logger()

KIND = "nbd"
FILE = "serves"
MAX_BYTES = 200
LINE = re.compile(r"(?P<host>[0-9.]+|\[[0-9a-fA-F:]+\]):(?P<first>\d{1,5})-(?P<last>\d{1,5})")
SCHEMA = (
    # `name`: the attachment that has the port; `content`: what the emulator was started with, "" until it serves.
    """
CREATE TABLE served (
    volume TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    port INTEGER NOT NULL UNIQUE,
    content TEXT NOT NULL
) STRICT
""",
)
ARCHITECTURES = (platform.machine(), "x86_64", "aarch64", "riscv64")
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
SECONDS_TO_ANSWER, SECONDS_TO_END = 30.0, 10.0
# A second one while a disk grows, and while that of a host that has crashed is not known to be dead; a third one is for
# whoever asks whether this answers.
CONNECTIONS = 3
# Seconds: a connection that nothing is heard on is dead soon, long before its other end gives it up.
KEEP_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 3, socket.TCP_KEEPCNT: 3}
UID = UIDS + USERS  # the first one: of no machine, and of no other confined program
MAX_PORTS = 4096  # each has a user of its own: they end where the next block of 65 536 begins
MARGIN = 1 << 30  # bytes that a file may have beside an eighth more than its volume

faults.declare("serving.before_spawn", "serving.after_spawn", "serving.before_end", "serving.before_forget")


@dataclass(frozen=True)
class Address:
    """Where other hosts reach this one, and the ports that are for volumes."""

    host: str
    first: int
    last: int

    @classmethod
    def of(cls, line: str) -> "Address":
        """Raises Refused."""
        if found := LINE.fullmatch(line.strip()):
            with suppress(ValueError):
                host = ipaddress.ip_address(found["host"].strip("[]"))
                one = cls(str(host), int(found["first"]), int(found["last"]))
                if 1024 <= one.first <= one.last < 1 << 16 and len(one.ports) <= MAX_PORTS and not host.is_unspecified:
                    return one
        words = f"the file `{FILE}` has to be one line like 10.0.0.5:10900-10999"
        raise Refused(f"{words}, with an address that other hosts reach and at most {MAX_PORTS} ports")

    @property
    def ports(self) -> range:
        return range(self.first, self.last + 1)

    def __str__(self) -> str:
        return f"{self.host}:{self.first}-{self.last}"


@dataclass(frozen=True)
class Wanted:
    """A volume as it is to be served: to whom (an attachment, with its key in hexadecimal) and what, the layers from
    the lowest on, each with its format."""

    volume: str
    name: str
    key: str
    read_only: bool
    size_bytes: int
    chain: tuple[tuple[str, str], ...]

    def content(self, address: Address) -> str:
        """The same as long as the emulator may stay as it is. It tells nobody the key."""
        told = json.dumps([asdict(self), address.host], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True)
class Place:
    """Files of one volume's emulator: see `agent.emulators.Home`."""

    directory: Path

    @property
    def alive(self) -> Path:
        return self.directory / "alive"

    @property
    def pid(self) -> Path:
        return self.directory / "pid"

    @property
    def emulator_log(self) -> Path:
        return self.directory / "log"

    @property
    def keys(self) -> Path:
        return self.directory / "keys"


class Serving:
    """What this host serves. The volume is locked while something is done about it."""

    def __init__(self, paths: Paths, jail: Jail, ledger: Ledger, host: str) -> None:
        """`host`: what this host calls itself in places that hosts share."""
        self.pool = str(uuid.uuid5(uuid.UUID(host), "volumes that it serves"))
        self._paths, self._jail, self._ledger = paths, jail, ledger
        self._directory = paths.runtime / "served"
        self._choosing = threading.Lock()
        ledger.migrate("serving", SCHEMA)
        make_passable(self._directory)

    # What the host says of itself

    def address(self) -> Address | None:
        """None: this is no storage host. Raises Refused when what its admin wrote makes no sense."""
        with suppress(FileNotFoundError):
            return Address.of(folders.read_file(self._paths.home / FILE, MAX_BYTES).decode(errors="replace"))
        return None

    def facts(self, directory: Path) -> dict[str, Any]:
        """The pool, if it is one: see `storage.agent.pools.Pools.facts`. `directory`: where its volumes are."""
        with suppress(Refused, OSError):
            if (address := self.address()) and not self._lacking():
                total_gib = system.room(directory) >> 30
                return {self.pool: {"name": str(address), "kind": KIND, "total_gib": total_gib}}
        return {}

    def problems(self) -> list[dict[str, str]]:
        """For the host's heartbeat."""
        try:
            address = self.address()
            problem = self._lacking() or self._out_of_reach(address) if address else ""
        except Refused as wrong:
            problem = str(wrong)
        return [{"what": "storage host", "problem": problem}] if problem else []

    def _lacking(self) -> str:
        return "" if _emulator() else "no QEMU is installed here, which serves volumes: install qemu-system-x86"

    def _out_of_reach(self, address: Address) -> str:
        """What hinders the next volume."""
        taken = self._ledger.rows("SELECT count(*) AS ports FROM served")[0]["ports"]
        if taken >= len(address.ports):
            return f"all {taken} ports for volumes are taken ({address}): give it more in the file `{FILE}`"
        try:
            _listen(address.host, 0).close()
        except OSError as error:
            return f"this host has no address {address.host} ({error.strerror}): mend the file `{FILE}`"
        return ""

    # Volumes

    def is_kept(self, wanted: Wanted) -> bool:
        """Whether it is served just so."""
        address, row = self.address(), self._row(wanted.volume)
        is_so = bool(address and row and row["content"] == wanted.content(address))
        return is_so and self._find(wanted.volume) is not None

    def start(self, wanted: Wanted) -> dict[str, Any]:
        """Serve a volume that nothing has open: {"id": the attachment, "host", "port"}. Raises Refused, OSError."""
        address = self.address()
        binary = _emulator()
        if address is None or binary is None:
            raise Refused(f"this host serves no volumes any more: {self._lacking() or f'its file `{FILE}` is gone'}")
        with ExitStack() as stack:
            listening = stack.enter_context(self._listening(wanted, address))
            port = listening.getsockname()[1]
            uid = first_uid() + UID + _user(port) if self._jail.uid else None
            place = self._place(wanted.volume)
            folders.remove(place.directory)
            folders.make_folder(place.directory, 0o711)
            folders.make_folder(place.keys, 0o700)
            write_key(place.keys, wanted.key, uid)
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            argv, files = self._command(binary, wanted, place, theirs, stack)
            confinement = self._jail.confine(uid, file_bytes=wanted.size_bytes * 9 // 8 + MARGIN)
            faults.reach("serving.before_spawn")
            with theirs:
                process = spawn(argv, place, confinement, (theirs.fileno(), *files))
            faults.reach("serving.after_spawn")
            try:
                _begin(ours, listening, wanted)
            except (OSError, ValueError, NoAnswer) as error:
                process.kill()
                said = tail(place.emulator_log, 600).splitlines()
                raise Refused(f"a volume could not be served: {said[-1] if said else error}") from error
            with self._ledger.write() as connection:
                query = "UPDATE served SET content = ? WHERE volume = ?"
                connection.execute(query, (wanted.content(address), wanted.volume))
        log.info("serves a volume", volume=wanted.volume, port=port)
        return self.facts_of(wanted, address)

    def facts_of(self, wanted: Wanted, address: Address | None = None) -> dict[str, Any]:
        """Where it is served. Raises Refused."""
        address, row = address or self.address(), self._row(wanted.volume)
        assert address is not None
        assert row is not None
        return {"id": wanted.name, "host": address.host, "port": int(row["port"])}

    def end(self, volume: str, *, but_for: str = "") -> None:
        """Nobody has it any more. `but_for`: an attachment that keeps its port. Raises Refused."""
        row, place = self._row(volume), self._place(volume)
        if row is None and not folders.status(place.directory):
            return
        faults.reach("serving.before_end")
        if process := self._find(volume):
            process.end(SECONDS_TO_END)
            if process.alive:
                raise Refused(f"what serves the volume, process {process.pid}, does not end")
        folders.remove(place.directory)
        faults.reach("serving.before_forget")
        if row and row["name"] != but_for:
            with self._ledger.write() as connection:
                connection.execute("DELETE FROM served WHERE volume = ?", (volume,))

    def clear_up(self) -> None:
        """End what no row of the ledger is about: it was lost."""
        for name in folders.names(self._directory):
            if self._row(name) is None:
                try:
                    self.end(name)
                    log.warning("ended what served an unknown volume", volume=name)
                except (Refused, NoAnswer, ValueError) as problem:
                    log.error("what serves an unknown volume does not end", volume=name, problem=str(problem))

    def _row(self, volume: str) -> Any:
        rows = self._ledger.rows("SELECT name, port, content FROM served WHERE volume = ?", (volume,))
        return rows[0] if rows else None

    def _place(self, volume: str) -> Place:
        return Place(self._directory / str(uuid.UUID(volume)))

    def _find(self, volume: str) -> Process | None:
        try:
            return emulators.find(self._place(volume))
        except NoAnswer as error:
            raise Refused(str(error)) from error

    def _listening(self, wanted: Wanted, address: Address) -> socket.socket:
        """A socket on the port that the volume has, or on the first that is free; it has that from now on."""
        row = self._row(wanted.volume)
        if row and row["port"] in address.ports:
            try:
                return _listen(address.host, row["port"])
            except OSError as error:
                where = f"{address.host}, port {row['port']}"
                raise Refused(f"the volume cannot be served at {where}: {error.strerror}") from error
        problem = ""
        with self._choosing:
            taken = {_user(one["port"]) for one in self._ledger.rows("SELECT port FROM served")}
            for port in (port for port in address.ports if _user(port) not in taken):
                try:
                    listening = _listen(address.host, port)
                except OSError as error:
                    problem = f": {error.strerror}"
                    continue
                with self._ledger.write() as connection:
                    new = (wanted.volume, wanted.name, port, "")
                    connection.execute("INSERT OR REPLACE INTO served VALUES (?, ?, ?, ?)", new)
                return listening
        raise Refused(f"no port for one more volume is free on the storage host ({address}){problem}")

    def _command(
        self, binary: str, wanted: Wanted, place: Place, monitor: socket.socket, stack: ExitStack
    ) -> tuple[list[str], list[int]]:
        """The command line, and the open files that it names."""
        argv = [binary, "-nodefaults", "-no-user-config", "-machine", "none", "-display", "none", "-sandbox", SANDBOX]
        argv += ["-chardev", f"socket,id=monitor,fd={monitor.fileno()}", "-mon", "chardev=monitor,mode=control"]
        argv += ["-object", creds("server", place.keys)]
        files: list[int] = []
        for number, (path, format_) in enumerate(wanted.chain, start=1):
            writes = number == len(wanted.chain) and not wanted.read_only
            file = folders.open_file(Path(path), os.O_RDWR if writes else os.O_RDONLY)
            stack.callback(os.close, file)
            files.append(file)
            argv += ["-add-fd", f"fd={file},set={number}"]
            for node in _nodes(number, format_, writes=writes):
                argv += ["-blockdev", json.dumps(node)]
        return argv, files


def _nodes(number: int, format_: str, *, writes: bool) -> list[dict[str, Any]]:
    """Of the layer with this number: the file, and what is in it. What stands in its header is not followed."""
    access = {"discard": "unmap"} if writes else {"read-only": True, "auto-read-only": False}
    content: dict[str, Any] = {"driver": format_, "node-name": f"layer{number}", "file": f"file{number}"}
    if format_ == QCOW2:
        content["backing"] = f"layer{number - 1}" if number > 1 else None
    file = {"driver": "file", "filename": f"/dev/fdset/{number}", "node-name": f"file{number}"}
    return [file | access, content | access]


def _user(port: int) -> int:
    """The number of its user, which stays the same when the file `serves` is changed."""
    return port % MAX_PORTS


def _emulator() -> str | None:
    """Any will do: it runs no guest."""
    return next((found for name in ARCHITECTURES if (found := shutil.which(f"qemu-system-{name}"))), None)


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError. What is accepted has the same options."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE.items():
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
        listening.bind((host, port))
        listening.listen(CONNECTIONS)
    except OSError:
        listening.close()
        raise
    return listening


def _begin(monitor: socket.socket, listening: socket.socket, wanted: Wanted) -> None:
    """Tell an emulator that has just been started to serve. Raises NoAnswer, OSError, ValueError."""
    monitor.settimeout(SECONDS_TO_ANSWER)
    with monitor.makefile("rb") as answers:

        def ask(command: str, arguments: dict[str, Any], file: socket.socket | None = None) -> None:
            message = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
            socket.send_fds(monitor, [message], [file.fileno()] if file else [])
            while "return" not in (answer := json.loads(answers.readline() or b"{}")):
                if "event" not in answer and "QMP" not in answer:
                    raise NoAnswer(answer.get("error", {}).get("desc", "it ended"))

        ask("qmp_capabilities", {})
        ask("getfd", {"fdname": "listening"}, listening)
        where = {"type": "fd", "data": {"str": "listening"}}
        ask("nbd-server-start", {"addr": where, "tls-creds": "tls", "max-connections": CONNECTIONS})
        node, writes = f"layer{len(wanted.chain)}", not wanted.read_only
        offer = {"id": "volume", "type": "nbd", "node-name": node, "name": wanted.name}
        ask("block-export-add", {**offer, "writable": writes, "writethrough": writes})


def chain_of(files: Sequence[tuple[Path, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((os.fspath(path), format_) for path, format_ in files)
