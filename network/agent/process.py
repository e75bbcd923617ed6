"""`pileus-agent network`: the one process of a host that may change networks.

As root it stays in the host's own network and keeps only the capabilities that networks need; as an ordinary user it
makes a user namespace and has rights in there alone. It answers on a Unix socket, one JSON object a line:

    {"do": "apply", "type", "id", "generation", "spec"}  {"applied": generation, "state", "problems": {part: words}}
    {"do": "change", "type", "id", "generation",         the same, or {"unknown": true}: it is not in that state
     "since": state, "difference"}
    {"do": "remove", "type", "id"}                       {"ok": true}
    {"do": "plug", "port", "headers"?}                   {"ok": true}, with the tap's descriptor (SCM_RIGHTS)
    {"do": "introduce", "port", "pages"}                 {"ok": true}: what the port's guest reads as its metadata
    {"do": "unplug", "port"}                             {"ok": true}
    {"do": "quarantine", "id", "on"}                     {"ok": true}: nothing plugs into this network any more
    {"do": "inventory"}, {"do": "counters"}, {"do": "capabilities"}
    {"do": "probe", "port", "address", "protocol", "number"?, "outside"?, "towards"?}
                                                         what is seen of a guest, see `examining`: takes a second or two

Whatever cannot be done is answered by {"problem": words}.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import structlog

from agent.paths import Paths
from network.agent import edge, examining, namespaces, nft, probe, way_out6
from network.agent.client import socket_path
from network.agent.networks import Problem
from network.agent.outside import Outside, close_way_out
from network.agent.plane import Plane
from network.agent.pools import Pools
from network.agent.services import Services

log = structlog.get_logger()
MAX_LINE = 64 << 20  # a network of 100 000 ports
SECONDS_BETWEEN_LOOKS = 5.0
LOOKS_PER_RESOURCE = 4
MAX_EXAMINATIONS = 4  # at once


def anchor_record(paths: Paths) -> Path:
    """The file that names the process which holds the namespaces."""
    return paths.runtime / "network" / "anchor"


def run(paths: Paths) -> int:
    """Run until SIGTERM or SIGINT; what was applied stays in the kernel. Raises OSError where nothing can be made."""
    directory = paths.runtime / "network"
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    is_root = os.geteuid() == 0
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each network has some sockets, each of its guests too
    outside = Outside(_way_out(paths))
    if not namespaces.is_anchored(anchor_record(paths)):
        close_way_out(_way_out(paths))
    try:
        entered = namespaces.enter(directory / "namespaces", anchor_record(paths))
        abilities = probe.probe(is_in_hosts_network=is_root)
    except PermissionError as error:  # in a container, say: it stays to tell why there are no networks here
        entered = namespaces.Namespaces(directory / "namespaces", anchor=0)
        abilities = probe.Abilities(missing={"namespaces": str(error)})
    if is_root and abilities.usable:
        namespaces.drop_privileges()
    for part, words in abilities.missing.items():
        log.warning("something is missing for networks", part=part, problem=words)
    ranges = Pools.said(os.environ.get("PILEUS_POOLS", ""), is_in_hosts_network=is_root)
    if ranges.problem:
        log.warning("floating IPs lead nowhere", problem=ranges.problem)
    listener = _listen(socket_path(paths))

    async def serve() -> int:
        services = Services(asyncio.get_running_loop(), entered, outside)
        plane = Plane(entered, abilities, edge.Side(host_table(paths), ranges), outside, services)
        return await _Process(plane, abilities, ranges).run(listener)

    status = asyncio.run(serve())
    socket_path(paths).unlink(missing_ok=True)
    if abilities.usable and not entered.names():
        close_way_out(_way_out(paths))
        namespaces.end_anchor(anchor_record(paths))
    return status


def remove_all(paths: Paths) -> None:
    """Remove everything that the process made on this host. It must not run. Raises nft.Refused."""
    close_way_out(_way_out(paths))
    namespaces.end_anchor(anchor_record(paths))
    if os.geteuid() == 0 and not nft.available():
        edge.remove(host_table(paths))
        way_out6.remove(host_table(paths))


def host_table(paths: Paths) -> str:
    """The name of this agent's table in the host's own nftables."""
    return "pileus_" + hashlib.sha256(os.fsencode(paths.runtime)).hexdigest()[:12]


def _way_out(paths: Paths) -> Path:
    return paths.runtime / "network" / "way-out.pid"


def _listen(path: Path) -> socket.socket:
    """The socket, for this user alone. Raises OSError when another process answers there."""
    with socket.socket(socket.AF_UNIX) as other:
        if other.connect_ex(str(path)) == 0:
            raise FileExistsError(f"another network process answers on {path}")
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


def _is_in_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def _unknown_uid() -> int:
    return int(Path("/proc/sys/kernel/overflowuid").read_text())


class _Process:
    """Requests are read in the event loop and done, one at a time, in a thread that may go into namespaces."""

    def __init__(self, plane: Plane, abilities: probe.Abilities, pools: Pools) -> None:
        self._plane = plane
        self._pools = pools
        self._abilities = abilities
        self._loop = asyncio.get_running_loop()
        self._kernel = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")
        self._examiners = ThreadPoolExecutor(MAX_EXAMINATIONS, thread_name_prefix="examiner")
        self._tasks: set[asyncio.Task[None]] = set()
        # The agent's own user, and root. A user namespace knows only its own: root outside has the number of all whom
        # it does not know, and of these only root gets past the mode of the socket and its directory.
        self._callers = {os.geteuid(), 0} | ({_unknown_uid()} if _is_in_user_namespace() else set())

    async def run(self, listener: socket.socket) -> int:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stopped.set)
        await self._loop.run_in_executor(self._kernel, self._plane.restore)
        self._start(self._accept(listener))
        self._start(self._watch())
        await stopped.wait()
        listener.close()
        for task in self._tasks:
            task.cancel()
        self._kernel.shutdown(wait=True)
        self._examiners.shutdown(cancel_futures=True)
        return 0

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """The way out can go at any time: another uplink, a program that ended. The rest should not change, but others
        may change it: one resource after the other is compared with the kernel, and mended."""
        for number in itertools.count(1):
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            with contextlib.suppress(OSError, nft.Refused):
                await self._loop.run_in_executor(self._kernel, self._plane.keep_edge)
                if number % LOOKS_PER_RESOURCE == 0:
                    await self._loop.run_in_executor(self._kernel, self._plane.look_at_next)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = await self._loop.sock_accept(listener)
            _, uid, _ = struct.unpack("=iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid in self._callers:
                self._start(self._converse(connection))
            else:
                connection.close()

    async def _converse(self, connection: socket.socket) -> None:
        data = bytearray()
        with connection, contextlib.suppress(OSError):
            while part := await self._loop.sock_recv(connection, 1 << 16):
                data += part
                while (end := data.find(b"\n")) >= 0:
                    line = bytes(data[:end])
                    del data[: end + 1]
                    await self._answer(connection, line)
                if len(data) > MAX_LINE:
                    return

    async def _answer(self, connection: socket.socket, line: bytes) -> None:
        answer, descriptor = await self._loop.run_in_executor(self._kernel, self._do, line)
        if isinstance(answer, examining.Examination):
            answer = await self._loop.run_in_executor(self._examiners, answer.finish)
        written = json.dumps(answer).encode() + b"\n"
        if descriptor is None:
            await self._loop.sock_sendall(connection, written)
            return
        try:
            socket.send_fds(connection, [written], [descriptor])
        finally:
            os.close(descriptor)

    def _do(self, line: bytes) -> tuple[dict[str, Any] | examining.Examination, int | None]:
        do = ""
        try:
            request = json.loads(line)
            do = str(request["do"])
            if do == "plug":
                return {"ok": True}, self._plane.plug(request["port"], bool(request.get("headers", True)))
            if do == "probe":
                return self._plane.examine(request), None
            if do not in self._deeds:
                return {"problem": f"this host's network process cannot {do!r}"}, None
            return self._deeds[do](self, request), None
        except (Problem, nft.Refused, ValueError) as problem:
            return {"problem": str(problem)}, None
        except (KeyError, TypeError) as error:
            return {"problem": f"the request is malformed: {error!r}"}, None
        except OSError as error:
            log.exception("the kernel refused", do=do)
            return {"problem": f"the kernel refused: {error}"}, None
        except Exception as error:
            log.exception("unexpected failure", do=do)
            return {"problem": f"unexpected failure: {type(error).__name__}: {error}"}, None

    def _apply(self, request: dict[str, Any]) -> dict[str, Any]:
        generation = int(request["generation"])
        problems = self._plane.apply(request["type"], request["id"], generation, request["spec"])
        return self._applied(request, problems)

    def _change(self, request: dict[str, Any]) -> dict[str, Any]:
        since, difference, generation = request["since"], request["difference"], int(request["generation"])
        problems = self._plane.change(request["type"], request["id"], generation, since, difference)
        return {"unknown": True} if problems is None else self._applied(request, problems)

    def _applied(self, request: dict[str, Any], problems: dict[str, str]) -> dict[str, Any]:
        state = self._plane.state(request["type"], request["id"])
        return {"applied": request["generation"], "state": state, "problems": problems}

    def _remove(self, request: dict[str, Any]) -> dict[str, Any]:
        self._plane.remove(request["type"], request["id"])
        return {"ok": True}

    def _introduce(self, request: dict[str, Any]) -> dict[str, Any]:
        self._plane.introduce(request["port"], request["pages"])
        return {"ok": True}

    def _unplug(self, request: dict[str, Any]) -> dict[str, Any]:
        self._plane.unplug(request["port"])
        return {"ok": True}

    def _quarantine(self, request: dict[str, Any]) -> dict[str, Any]:
        (self._plane.quarantined.add if request["on"] else self._plane.quarantined.discard)(request["id"])
        return {"ok": True}

    def _tell(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "capabilities":
            usable = self._abilities.usable
            world = self._plane.world
            ways = {
                "way_out": world.way_out, "way_out6": world.way_out6, "vtep": world.vtep, "tunnels": world.tunnels,
            }  # fmt: skip
            told = {name: tell() for name, tell in ways.items()} if usable else {}
            return self._abilities.describe() | self._pools.describe() | told
        return self._plane.inventory() if request["do"] == "inventory" else self._plane.counters()

    _deeds: ClassVar[dict[str, Callable[["_Process", dict[str, Any]], dict[str, Any]]]] = {
        "apply": _apply,
        "change": _change,
        "remove": _remove,
        "introduce": _introduce,
        "unplug": _unplug,
        "quarantine": _quarantine,
        "inventory": _tell,
        "counters": _tell,
        "capabilities": _tell,
    }
