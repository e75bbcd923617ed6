"""What a joined host knows of its control plane: `agent.json` in the agent's home, readable by nobody else."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from agent.durability import write_secret


@dataclass(frozen=True)
class Membership:
    """The answer to joining, and where to go with it."""

    url: str
    host_id: str
    name: str
    token: str
    redis_url: str
    key_prefix: str
    queue: str
    heartbeat_seconds: int = 10

    @classmethod
    def read(cls, path: Path) -> "Membership":
        """Raises FileNotFoundError when this host has not joined."""
        content = json.loads(path.read_text())
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})

    def write(self, path: Path) -> None:
        write_secret(path, json.dumps(asdict(self), indent=1))
