"""Where the machines of this host are: files that outlive a reboot, and sockets.

Nothing in a path comes from a tenant: names are ids.
"""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from agent.paths import Paths, make_passable
from storage.agent import transfers

TYPE = "instance"

MAX_SOCKET_PATH = 107  # sun_path of sockaddr_un(7), less its final NUL


@dataclass(frozen=True)
class Home:
    """The files and sockets of one machine."""

    directory: Path
    runtime: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    def begun_with(self, *, from_volume: bool) -> Path:
        """What is there once a machine has begun: its root disk, or, booting from a volume, its host key."""
        return self.host_key if from_volume else self.disk

    @property
    def seed(self) -> Path:
        return self.directory / "seed.iso"

    @property
    def variables(self) -> Path:
        """The settings that UEFI keeps, if it has UEFI."""
        return self.directory / "uefi-variables"

    @property
    def hardware(self) -> Path:
        """What the emulator that was started last was made of, so that what runs is known as it is."""
        return self.directory / "hardware.json"

    @property
    def host_key(self) -> Path:
        return self.directory / "host-key"

    @property
    def console_log(self) -> Path:
        return self.directory / "console.log"

    @property
    def emulator_log(self) -> Path:
        return self.directory / "emulator.log"

    @property
    def saved(self) -> Path:
        """A suspended machine's memory and devices, whole; the disk is as it was then."""
        return self.directory / "saved"

    def snapshot(self, name: str) -> Path:
        """A snapshot with memory and disk, for clones of this machine. The name is a UUID, or a pattern."""
        return self.directory / f"snapshot-{name if name == '*' else uuid.UUID(name)}"

    @property
    def alive(self) -> Path:
        """The file that the emulator holds locked for as long as it lives."""
        return self.directory / "alive"

    @property
    def pid(self) -> Path:
        return self.directory / "pid"

    @property
    def control_socket(self) -> Path:
        return self.runtime / "control"

    @property
    def events_socket(self) -> Path:
        return self.runtime / "events"

    @property
    def serial_socket(self) -> Path:
        return self.runtime / "serial"

    @property
    def vnc_socket(self) -> Path:
        return self.runtime / "vnc"

    @property
    def agent_socket(self) -> Path:
        """The channel to the guest agent, if the machine has one: those of older releases have none."""
        return self.runtime / "agent"


class Homes:
    """The homes of all machines, below the agent's directories."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.directory = paths.home / "machines"
        self._runtime = paths.runtime

    def make(self) -> None:
        """Raises OSError when the sockets of machines would have names that are too long."""
        longest = self.of(str(uuid.UUID(int=0))).control_socket
        if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
            raise OSError(f"{self._runtime} is too long for Unix sockets: set PILEUS_RUNTIME_DIR to a shorter path")
        make_passable(self.directory)

    def of(self, machine_id: str) -> Home:
        """The home of a machine. Raises ValueError when the id is not a UUID: it becomes part of paths."""
        canonical = uuid.UUID(machine_id)
        return Home(self.directory / str(canonical), self._runtime / canonical.hex)

    def brought(self, machine_id: str, transfer_id: str, name: str) -> Path | None:
        """A file of a machine that has come from another host, until it is taken in."""
        return transfers.find(self._paths, transfer_id, TYPE, machine_id, name)
