"""The system user that the processes run as when `./pileus` is run by root: PostgreSQL refuses root, and so do we."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM_USER = "pileus"


@dataclass(frozen=True)
class Account:
    """The user a process runs as. `owner` None: the user who started us."""

    name: str
    uid: int
    gid: int
    changes: bool

    @property
    def owner(self) -> tuple[int, int] | None:
        return (self.uid, self.gid) if self.changes else None

    def popen_arguments(self) -> dict[str, Any]:
        """Arguments of subprocess.Popen that make the child this user."""
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "umask": 0o022} if self.changes else {}

    def run(
        self, command: list[str], *, env: Mapping[str, str], cwd: Path, check: bool = False, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, check=check, env=dict(env), cwd=cwd, text=True, **self.popen_arguments(), **more)


def myself() -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container with a bare uid
        name = str(uid)
    return Account(name, uid, os.getegid(), changes=False)


def service_account() -> Account:
    """The user of all processes but the host worker. As root the system user `pileus`, made at first."""
    if os.geteuid() != 0:
        return myself()
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", SYSTEM_USER], check=True, capture_output=True)
        entry = pwd.getpwnam(SYSTEM_USER)
    return Account(SYSTEM_USER, entry.pw_uid, entry.pw_gid, changes=True)
