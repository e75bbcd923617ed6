"""What a joined host knows of its control plane: `agent.json` in the agent's home, readable by the agent only."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

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

    @property
    def broker(self) -> str:
        """Where the broker is, without this host's credentials."""
        parts = urlsplit(self.redis_url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def at_broker(self, broker: str) -> "Membership":
        """The same with another address of the broker; this host's credentials and options stay. Raises ValueError."""
        own, present = urlsplit(self.redis_url), urlsplit(broker)
        if present.scheme not in ("redis", "rediss") or not present.hostname:
            raise ValueError("not the URL of a Redis")
        login, at, _ = own.netloc.rpartition("@")
        netloc = f"{login}{at}{present.netloc.rpartition('@')[2]}"
        moved = present._replace(netloc=netloc, query=present.query or own.query)
        return replace(self, redis_url=urlunsplit(moved))
