"""Where things are on a host. Nothing in a path comes from a tenant: names are ids and sha256 sums."""

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

SOCKET_LIMIT = 107  # sun_path of sockaddr_un(7), less its final NUL


@dataclass(frozen=True)
class Home:
    """The files and sockets of one machine."""

    directory: Path
    runtime: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.qcow2"

    @property
    def seed(self) -> Path:
        return self.directory / "seed.iso"

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


@dataclass(frozen=True)
class Paths:
    """The agent's directories: `home` outlives a reboot, `runtime` holds sockets."""

    home: Path
    runtime: Path

    @classmethod
    def from_environment(cls, home: str | None = None) -> "Paths":
        root = os.geteuid() == 0
        default_home = "/var/lib/pileus/agent" if root else "~/.local/share/pileus/agent"
        default_runtime = "/run" if root else os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/{os.geteuid()}"  # noqa: S108
        chosen_home = home or os.environ.get("PILEUS_AGENT_HOME") or default_home
        chosen_runtime = os.environ.get("PILEUS_RUNTIME_DIR") or f"{default_runtime}/pileus"
        return cls(Path(chosen_home).expanduser().absolute(), Path(chosen_runtime).absolute())

    def make(self) -> None:
        """Make the directories. An emulator's own user may pass through them to its own files, and list nothing."""
        longest = self.machine(str(uuid.UUID(int=0))).control_socket
        if len(os.fsencode(longest)) > SOCKET_LIMIT:
            raise OSError(f"{self.runtime} is too long for Unix sockets: set PILEUS_RUNTIME_DIR to a shorter path")
        for directory in (self.home, self.runtime, self.machines, self.images, self.locks):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o711)

    @property
    def machines(self) -> Path:
        return self.home / "machines"

    @property
    def images(self) -> Path:
        return self.home / "images"

    @property
    def locks(self) -> Path:
        return self.home / "locks"

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.sqlite3"

    @property
    def membership(self) -> Path:
        return self.home / "agent.json"

    def machine(self, machine_id: str) -> Home:
        """The home of a machine. Raises ValueError when the id is not a UUID: it becomes part of paths."""
        canonical = uuid.UUID(machine_id)
        return Home(self.machines / str(canonical), self.runtime / canonical.hex)
