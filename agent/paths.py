"""Where the agent keeps what it knows. Nothing in a path comes from a tenant: names are ids and sha256 sums."""

import os
from dataclasses import dataclass
from pathlib import Path


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
        for directory in (self.home, self.runtime, self.locks):
            make_passable(directory)

    @property
    def locks(self) -> Path:
        return self.home / "locks"

    @property
    def ledger(self) -> Path:
        return self.home / "ledger.sqlite3"

    @property
    def restarts(self) -> Path:
        return self.home / "restarts"

    @property
    def membership(self) -> Path:
        return self.home / "agent.json"


def make_passable(directory: Path) -> None:
    """Make a directory that other users may pass through to their own files, and list nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711)
