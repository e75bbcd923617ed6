"""Where everything of one embedded cloud lies. As root its processes are another user, which must reach it."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
MAX_RUNTIME = 55  # the agent's sockets are up to 48 bytes below it
DEFAULT_ROOT_HOME = Path("/var/lib/pileus")


@dataclass(frozen=True)
class Home:
    """The state folder ($PILEUS_HOME)."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Home":
        default = DEFAULT_ROOT_HOME if os.geteuid() == 0 else TREE / "var"
        return cls(Path(os.environ.get("PILEUS_HOME") or default).resolve())

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def credentials(self) -> Path:
        """The logins that `up` made: promised to scripts, so its name and shape stay."""
        return self.root / "credentials.json"

    @property
    def ssh_key(self) -> Path:
        """The private key that the first virtual machine lets in."""
        return self.secrets / "first_ssh_key"

    @property
    def memory(self) -> Path:
        """Ports, keys and addresses that the next command has to know again."""
        return self.secrets / "cloud.json"

    @property
    def processes(self) -> Path:
        """What the supervisor is to run, environment included (so it is a secret)."""
        return self.secrets / "processes.json"

    @property
    def pids(self) -> Path:
        return self.root / "pids.json"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def servers(self) -> Path:
        """Configuration of PostgreSQL and Valkey: ours, while their data is theirs."""
        return self.root / "servers"

    @property
    def stamps(self) -> Path:
        """What was made of which source: ours, while what was made may be the control plane's."""
        return self.root / "stamps"

    @property
    def image_store(self) -> Path:
        return self.root / "images"

    @property
    def backup_store(self) -> Path:
        return self.root / "backups"

    @property
    def built_images(self) -> Path:
        return self.root / "built-images"

    @property
    def cache(self) -> Path:
        """HOME and cache of the processes: nothing in it is missed when it goes."""
        return self.root / "cache"

    @property
    def agent(self) -> Path:
        return self.root / "agent"

    @cached_property
    def runtime(self) -> Path:
        """Folder of the Unix sockets: short, as a socket's path has 107 bytes; its own for each state folder."""
        if given := os.environ.get("PILEUS_RUNTIME_DIR"):
            return Path(given)
        tag = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:6]
        if os.geteuid() == 0:
            return Path("/run/pileus" if self.root == DEFAULT_ROOT_HOME else f"/run/pileus-{tag}")
        inside = self.root / "run"
        if len(os.fsencode(inside)) <= MAX_RUNTIME:
            return inside  # $XDG_RUNTIME_DIR goes when its user logs out, and the cloud stays
        base = os.environ.get("XDG_RUNTIME_DIR")
        if base and os.access(base, os.W_OK):
            return Path(base) / f"pileus-{tag}"
        return Path(tempfile.gettempdir()) / f"pileus-{os.geteuid()}-{tag}"

    @property
    def postgres_sockets(self) -> Path:
        return self.runtime / "db"

    @property
    def streams_socket(self) -> Path:
        return self.runtime / "web" / "streams.sock"

    @property
    def agent_sockets(self) -> Path:
        return self.runtime / "node"

    @property
    def supervisor_socket(self) -> Path:
        return self.runtime / "supervisor.sock"
