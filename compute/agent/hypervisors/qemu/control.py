"""Drives a running QEMU over its control socket (QMP), one short conversation at a time.

QEMU serves one client per socket and makes others wait, so no connection stays open for long.
Source: QEMU QMP Reference Manual, sections "Virtual machine run state" and "QMP introspection".
"""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from string import ascii_lowercase
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError
from qemu.qmp.qmp_client import ExecuteError

from agent import folders
from agent.emulators import read_pid
from agent.errors import NoAnswer
from compute.agent import sockets
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Counters, Power, Status
from compute.agent.hypervisors.qemu.devices import CHANNEL_TO_AGENT, CHANNELS
from compute.agent.hypervisors.qemu.slots import DISK, QemuSlots
from storage.hardware import Hardware

T = TypeVar("T")

SECONDS_TO_ANSWER = 20.0
SECONDS_TO_START = 60.0
SECONDS_TO_MIGRATE = 300.0
UNLIMITED = 1 << 40  # bytes a second
STATE, PORTS, HARDWARE, CHANNEL = "state", "ports", "hardware", "channel"  # files of a saved machine
PORTS_OF_OLD = 8  # of machines that an older release saved without this file
HARDWARE_OF_OLD = Hardware(machine_type="", firmware="", disk_bus="virtio", nic_bus="virtio")  # of all their machines
MAX_HARDWARE = 1000  # bytes
SECONDS_TO_COUNT = 0.5
OFF = {"shutdown", "guest-panicked"}
PROBLEMS = {
    "io-error": "paused: the host's disk is full or failing",
    "internal-error": "paused: the emulator met an internal error",
    "watchdog": "paused by the guest's watchdog",
}
CURABLE = {"io-error"}


class QemuControl:
    """`hypervisors.base.Control` over QMP."""

    def __init__(self, client: QMPClient, loop: asyncio.AbstractEventLoop, hardware: Hardware) -> None:
        self._client = client
        self._loop = loop
        self._hardware = hardware

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Run one QMP command and return its answer. Raises NoAnswer."""
        return within(self._loop, self._client.execute(command, arguments), command)

    def attempt(self, command: str, arguments: Mapping[str, object] | None = None) -> bool:
        """Run a command that QEMU may refuse. Returns whether it was done. Raises NoAnswer if QEMU does not answer."""
        try:
            self.execute(command, arguments)
        except NoAnswer as error:
            if isinstance(error.__cause__, ExecuteError):
                return False
            raise
        return True

    @property
    def slots(self) -> QemuSlots:
        return QemuSlots(self, self._hardware)

    def status(self) -> Status:
        word = self.execute("query-status")["status"]
        if word in OFF:
            return Status(Power.OFF)
        if word == "running":
            return Status(Power.RUNNING)
        return Status(Power.PAUSED, PROBLEMS.get(word, ""), word in CURABLE)

    def guest_listens(self) -> bool:
        return any(one["label"] == CHANNEL_TO_AGENT and one["frontend-open"] for one in self.execute("query-chardev"))

    def press_power_button(self) -> None:
        self.execute("system_powerdown")
        if self.execute("query-target")["arch"] == "riscv64":  # its board's power button is on the keyboard
            self.execute("send-key", {"keys": [{"type": "qcode", "data": "power"}]})

    def reset(self) -> None:
        self.execute("system_reset")
        self.execute("cont")

    def pause(self) -> None:
        self.execute("stop")

    def resume(self) -> None:
        self.execute("cont")

    def save(self, directory: Path, uid: int | None) -> None:
        """Its state as a migration stream in a file. Source: QEMU's docs/devel/migration.rst."""
        with folders.create_file(directory / PORTS) as file:
            file.write(str(self.count_ports()).encode())
        with folders.create_file(directory / HARDWARE) as file:
            file.write(_as_json(self._hardware))
        if CHANNELS in self.slots.devices():
            folders.create_file(directory / CHANNEL).close()
        with folders.create_file(directory / STATE) as file:
            self.execute("migrate-set-parameters", {"max-bandwidth": UNLIMITED})
            self.hand_over(file.fileno(), STATE)
            self.execute("migrate", {"uri": f"fd:{STATE}"})
            self._await_migration()

    def load(self, directory: Path) -> None:
        """Load what `save` wrote, in a QEMU that was started for incoming migration. The machine stays paused."""
        with os.fdopen(folders.open_file(directory / STATE), "rb") as file:
            self.hand_over(file.fileno(), STATE)
            self.execute("migrate-incoming", {"uri": f"fd:{STATE}"})
            self._await_migration()

    def count_ports(self) -> int:
        """How many root ports the machine has: those of older releases have fewer."""
        return sum(name.startswith("port") for name in self.slots.devices())

    def hand_over(self, descriptor: int, name: str) -> None:
        """Give QEMU an open file under a name. Its confinement does not let it open files there itself."""
        self.send(descriptor)
        self.execute("getfd", {"fdname": name})

    def send(self, descriptor: int) -> None:
        """Send an open file, for the next command to use."""
        try:
            self._client.send_fd_scm(descriptor)
        except (OSError, QMPError) as error:
            raise NoAnswer(f"QEMU does not take a file: {error}") from error

    def _await_migration(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_MIGRATE
        while (said := self.execute("query-migrate")).get("status") != "completed":
            if said.get("status") in ("failed", "cancelled"):
                raise NoAnswer(f"QEMU, its state: {said.get('error-desc') or said['status']}")
            if time.monotonic() > deadline:
                raise NoAnswer(f"QEMU, its state: not within {SECONDS_TO_MIGRATE:.0f} s")
            time.sleep(0.01)

    def quit(self) -> None:
        # QEMU may be gone before its answer is read.
        with contextlib.suppress(NoAnswer):
            self.execute("quit")


def ports_of_saved(directory: Path) -> int:
    """The number of root ports of a saved machine; it must start with the same number. Raises OSError."""
    if folders.status(directory / PORTS) is None:
        return PORTS_OF_OLD
    return int(folders.read_file(directory / PORTS, 8))


def had_channel(directory: Path) -> bool:
    """Whether a saved machine has a channel to its guest's agent; it must start with one then, and only then."""
    return folders.status(directory / CHANNEL) is not None


def keep_hardware(home: Home, hardware: Hardware) -> None:
    """Write down what the emulator that is about to start is made of. Raises OSError."""
    new = home.hardware.with_suffix(".new")
    new.unlink(missing_ok=True)
    with folders.create_file(new) as file:
        file.write(_as_json(hardware))
    new.rename(home.hardware)


def read_hardware(path: Path) -> Hardware:
    """What `keep_hardware` or `save` wrote. Older releases wrote nothing. Raises OSError."""
    if folders.status(path) is None:
        return HARDWARE_OF_OLD
    return Hardware(**json.loads(folders.read_file(path, MAX_HARDWARE)))


def _as_json(hardware: Hardware) -> bytes:
    return json.dumps(asdict(hardware)).encode()


@contextlib.contextmanager
def connect(home: Home) -> Iterator[QemuControl]:
    """Talk to the machine's QEMU. Raises NoAnswer, and OSError when its files cannot be read."""
    hardware = read_hardware(home.hardware)
    connection = dial(home, home.control_socket)
    loop = asyncio.new_event_loop()
    client = QMPClient("pileus")
    client.logger.setLevel("CRITICAL")
    try:
        within(loop, client.connect(connection), "connect")
        try:
            yield QemuControl(client, loop, hardware)
        finally:
            with contextlib.suppress(NoAnswer):
                within(loop, client.disconnect(), "disconnect")
    finally:
        loop.close()


def dial(home: Home, path: Path) -> socket.socket:
    """Connect to one of the machine's sockets; waits for a QEMU that was just started to open it.

    Raises NoAnswer when QEMU ends, or is too busy for too long.
    """
    began = time.monotonic()
    while True:
        try:
            return sockets.connect(home, path, SECONDS_TO_ANSWER)
        except PermissionError as error:
            raise NoAnswer(f"QEMU, {path.name}: {error}") from error
        except OSError as error:
            is_starting = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
            patience = SECONDS_TO_START if is_starting else SECONDS_TO_ANSWER
            process = read_pid(home)
            if process is None or not process.alive or time.monotonic() > began + patience:
                raise NoAnswer(f"QEMU, {path.name}: {error}") from error
        time.sleep(0.005)


def within(loop: asyncio.AbstractEventLoop, conversation: Coroutine[Any, Any, T], what: str) -> T:
    """Run a coroutine with a timeout. Every failure becomes a NoAnswer that names the step."""
    try:
        return loop.run_until_complete(asyncio.wait_for(conversation, SECONDS_TO_ANSWER))
    except (QMPError, OSError, EOFError, TimeoutError) as error:
        raise NoAnswer(f"QEMU, {what}: {error or type(error).__name__}") from error


def events(home: Home) -> socket.socket:
    """A socket with QEMU's events, readable when there are any. Raises NoAnswer."""
    connection = dial(home, home.events_socket)
    try:
        connection.sendall(json.dumps({"execute": "qmp_capabilities"}).encode() + b"\n")
        connection.setblocking(False)
    except OSError as error:
        connection.close()
        raise NoAnswer(f"QEMU, events: {error}") from error
    return connection


SECONDS_BETWEEN_WORDS = 5  # between the guest's reports of its memory use
MIB = 1 << 20
NOT_TOLD = 2**63  # QEMU's value, or a greater one, for a figure that the guest has not reported
BALLOON = {"path": "/machine/peripheral/balloon"}
# In this order on one connection. Setting the polling interval again changes nothing.
QUESTIONS = b"".join(
    json.dumps({"execute": name, "arguments": arguments}).encode()
    for name, arguments in (
        ("qmp_capabilities", {}),
        ("query-blockstats", {}),
        ("qom-set", {**BALLOON, "property": "guest-stats-polling-interval", "value": SECONDS_BETWEEN_WORDS}),
        ("qom-get", {**BALLOON, "property": "guest-stats"}),
    )
)


def counters(home: Home) -> Counters:
    """Counters of disks, and the guest's memory use: a plain exchange without the QMP client, with a short timeout.

    QEMU does not count traffic of its user-mode network. Raises NoAnswer.
    """
    try:
        with sockets.connect(home, home.control_socket, SECONDS_TO_COUNT) as connection:
            connection.sendall(QUESTIONS)
            lines = sockets.Lines(connection, SECONDS_TO_COUNT)
            _, disks, _, memory = (json.loads(_next_answer(lines)) for _ in range(4))
            stats = [(str(device.get("qdev", "")), _counted(device["stats"])) for device in disks.get("return", [])]
            return Counters(
                **{name: sum(counted[name] for _, counted in stats) for name in COUNTED},
                disks={
                    ascii_lowercase.index(disk[1]): counted for qdev, counted in stats if (disk := DISK.search(qdev))
                },
                guest_memory_mib=guest_memory_mib(memory.get("return", {})),
            )
    except (OSError, *sockets.NO_SENSE) as error:
        raise NoAnswer(f"QEMU, query-blockstats: {error or type(error).__name__}") from error


COUNTED = {
    "disk_read_bytes": "rd_bytes",
    "disk_write_bytes": "wr_bytes",
    "disk_reads": "rd_operations",
    "disk_writes": "wr_operations",
}


def _counted(stats: dict[str, Any]) -> dict[str, int]:
    return {name: int(stats[theirs]) for name, theirs in COUNTED.items()}


def guest_memory_mib(told: dict[str, Any]) -> float | None:
    """The guest's memory use in MiB, as its balloon driver reported; None without a driver or a recent report."""
    at, total, available = (
        int(told.get("last-update", 0)),
        int(told.get("stats", {}).get("stat-total-memory", -1)),
        int(told.get("stats", {}).get("stat-available-memory", -1)),
    )
    is_late = time.time() - at > 6 * SECONDS_BETWEEN_WORDS
    return None if is_late or not 0 <= available <= total < NOT_TOLD else round((total - available) / MIB, 1)


def _next_answer(lines: sockets.Lines) -> bytes:
    """The answer to a command; skips the greeting and events."""
    while not (line := lines.read()).startswith((b'{"return"', b'{"error"')):
        pass
    return line
