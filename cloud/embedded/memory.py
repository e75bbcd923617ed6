"""What one embedded cloud remembers between commands: ports, keys, and servers it was told to use."""

import hashlib
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any

from cloud.embedded.files import make_folder, write_file
from cloud.embedded.paths import DEFAULT_ROOT_HOME, Home

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104


# Users of machines and of what serves their disks: blocks of as many as an agent takes, which are twice 65 536. Two
# clouds on one machine hardly have the same block.
FIRST_UID = 1_900_000_000  # also of clouds that older releases made
UIDS_OF_A_CLOUD = 2 * 65_536
BLOCKS = 1_750


def first_uid_of(home: Home) -> int:
    if home.root == DEFAULT_ROOT_HOME:
        return FIRST_UID
    block = 1 + int.from_bytes(hashlib.sha256(os.fsencode(home.root)).digest()[:4]) % BLOCKS
    return FIRST_UID + block * UIDS_OF_A_CLOUD


def new_secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass
class Memory:
    port: int = 8080
    listen: str = "127.0.0.1"
    url: str | None = None  # set when people reach the cloud by another name than listen:port
    redis_port: int = 0  # 0: none chosen yet
    database_url: str | None = None  # servers of the user's own, instead of the ones from wheels
    redis_url: str | None = None
    host_redis_url: str | None = None
    settings: dict[str, str] = field(default_factory=dict)  # others of the control plane, by variable
    secret_key: str = field(default_factory=new_secret)
    redis_password: str = field(default_factory=new_secret)
    first_instance: str | None = None  # launched once per cloud, never again when somebody deletes it
    furnished: str = ""  # with what schema, users and images were last brought up to date
    logins_shown: bool = False  # passwords are printed once
    first_uid: int = FIRST_UID  # of the users that this cloud's machines run as

    @classmethod
    def of(cls, home: Home) -> "Memory":
        try:
            known: dict[str, Any] = json.loads(home.memory.read_text())
        except FileNotFoundError:
            return cls(first_uid=first_uid_of(home))
        return cls(**{name: value for name, value in known.items() if name in cls.__dataclass_fields__})

    def keep(self, home: Home) -> None:
        make_folder(home.secrets, mode=0o700)
        write_file(home.memory, json.dumps(asdict(self), indent=1))

    @property
    def public_url(self) -> str:
        if self.url:
            return self.url.rstrip("/")
        return self.local_url

    @property
    def local_url(self) -> str:
        """Where web answers on this machine, whatever name the world knows it by."""
        host = "127.0.0.1" if self.listen in EVERYWHERE else self.listen
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
