"""Pools of a Ceph cluster, which every host with a key reaches. What is in one: see `storage.agent.rbd`.

A folder `ceph/NAME` of the agent's home has what a host needs for one: `ceph.conf`, whose `rbd_default_pool` names the
pool, and the keyring `ceph.client.USER.keyring`. Which pool it is the cluster says itself: so hosts prove that they see
the same one.

A cluster that cannot serve keeps whoever asks it waiting for ever. So it is asked by Ceph's own programs only, which
are killed when their time is over.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import structlog

from agent import folders
from agent.errors import Refused
from agent.jail import Jail
from agent.paths import Paths
from storage.agent.relays import SECONDS_TO_ANSWER, end_all

log = structlog.get_logger()

KIND = "ceph"
CONF = "ceph.conf"
ADMIN = "admin"  # may do too much: it is used where there is no other user
KEYRING = re.compile(r"ceph\.client\.(?P<user>[\w.-]+)\.keyring")
PACKAGES = {**dict.fromkeys(("rbd", "ceph", "rados"), "ceph-common"), "qemu-nbd": "qemu-utils and qemu-block-extra"}
SECONDS_FOR_HEARTBEAT = 2.0
SECONDS_BETWEEN_LOOKS = 30.0


class Failed(Refused):
    """One of Ceph's programs ended with an error. `code`: an errno."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code

    @property
    def is_missing(self) -> bool:
        """Whether what was asked for is not there. `rados` says so in its words only."""
        return self.code == errno.ENOENT or f"({errno.ENOENT}) " in str(self)


@dataclass(eq=False)
class Cluster:
    """A pool of a cluster, by what is in its folder. `problem`: why it could not be used when it was last looked at."""

    owner: Path  # the home of this agent
    name: str
    folder: Path
    user: str
    jail: Jail
    facts: dict[str, Any] | None = None
    problem: str = ""
    patience: ClassVar[float] = 30.0  # seconds
    _looked_at: float = -SECONDS_BETWEEN_LOOKS
    _looking: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def conf(self) -> Path:
        return self.folder / CONF

    @property
    def keyring(self) -> Path:
        return self.folder / f"ceph.client.{self.user}.keyring"

    @cached_property
    def pool(self) -> str:
        """As RBD calls it. Raises Refused."""
        asked = ("ceph-conf", "--conf", os.fspath(self.conf), "--name", f"client.{self.user}")
        return self.run(*asked, "--show-config-value", "rbd_default_pool").strip()

    @cached_property
    def fsid(self) -> uuid.UUID:
        return uuid.UUID(self.ask("ceph", "fsid").strip())

    @cached_property
    def id(self) -> str:
        """The same on all hosts that reach this pool. Raises Refused."""
        return str(uuid.uuid5(self.fsid, f"rbd pool {self._usage()['id']}"))

    @property
    def is_known(self) -> bool:
        """Whether its `id` can be told without asking it."""
        return "id" in vars(self)

    def _usage(self) -> dict[str, Any]:
        pools = json.loads(self.ask("ceph", "df", "--format", "json"))["pools"]
        found: dict[str, Any] | None = next((one for one in pools if one["name"] == self.pool), None)
        if found is None:
            raise Refused(f"the Ceph cluster has no pool {self.pool}: rbd_default_pool in {self.conf} names it")
        return found

    # Looking at it beside the clock

    def look(self, patience: float = SECONDS_FOR_HEARTBEAT) -> None:
        """Refresh `facts` and `problem`, waiting no longer than this: who is late is seen by the next look."""
        with self._lock:
            if self._looking is None and time.monotonic() > self._looked_at + SECONDS_BETWEEN_LOOKS:
                self._looking = threading.Thread(target=self._look, name=f"ceph-{self.name}", daemon=True)
                self._looking.start()
            looking = self._looking
        if looking:
            looking.join(patience)

    def _look(self) -> None:
        try:
            if missing := [program for program in PACKAGES if not shutil.which(program)]:
                raise Refused(f"{missing[0]} is missing on this host: install {PACKAGES[missing[0]]}")
            stats = self._usage()["stats"]
            total = int(stats["stored"]) + int(stats["max_avail"])
            self.facts, self.problem = {"name": self.name, "kind": KIND, "total_gib": total >> 30, "pool": self.id}, ""
        except Exception as problem:  # whatever it says, it is looked at again
            self.facts, self.problem = None, str(problem) or repr(problem)
            log.warning("a Ceph pool cannot be used", folder=self.name, problem=self.problem)
        finally:
            self._looked_at = time.monotonic()
            self._looking = None

    # Ceph's programs

    def ask(self, *command: str, patience: float | None = None) -> str:
        """What a program says that asks the cluster. Raises Refused."""
        access = ("--conf", os.fspath(self.conf), "--id", self.user, "--keyring", os.fspath(self.keyring))
        return self.run(command[0], *access, *command[1:], patience=patience)

    def run(self, *command: str, patience: float | None = None) -> str:
        """What a program says. Raises Refused."""
        # The child dies with the worker: an abandoned attempt must not work on under the next one.
        seconds = patience or self.patience
        wrapped = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        try:
            done = subprocess.run(  # noqa: S603
                wrapped, check=False, capture_output=True, text=True, timeout=seconds, env=environment
            )
        except subprocess.TimeoutExpired:
            raise Refused(f"the Ceph cluster of {self.name} does not answer within {seconds:.0f} s") from None
        except OSError as error:
            raise Refused(f"{command[0]}: {error}") from error
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise Failed(f"Ceph ({self.name}): {said[-1][-300:] if said else 'no reason given'}", done.returncode)
        return done.stdout


class Clusters:
    """The pools of Ceph clusters that this host has a key for."""

    def __init__(self, paths: Paths, jail: Jail) -> None:
        self._home, self._jail = paths.home, jail
        self._known: dict[tuple[str, str, int], Cluster] = {}

    def __iter__(self) -> Iterator[Cluster]:
        """All whose folder is complete, looked at anew each time."""
        for name in sorted(folders.names(self._home / "ceph")):
            folder = (self._home / "ceph" / name).resolve()
            users = [found["user"] for file in folders.names(folder) if (found := KEYRING.fullmatch(file))]
            if users and (folder / CONF).is_file():
                user = min(users, key=lambda user: (user == ADMIN, user))
                key = (name, user, (folder / CONF).stat().st_mtime_ns)
                yield self._known.setdefault(key, Cluster(self._home, name, folder, user, self._jail))

    def get(self, pool: str) -> Cluster:
        """By its id. Raises Refused when this host cannot reach it."""
        problems = []
        for cluster in sorted(self, key=lambda cluster: not cluster.is_known):  # nobody waits for another that is away
            try:
                if cluster.id == pool:
                    return cluster
            except Refused as problem:
                problems.append(str(problem))
        words = "; ".join(problems) or "no folder in `ceph` of its agent's home is for it"
        raise Refused(f"the Ceph pool of this volume cannot be reached from its host (pool {pool}): {words}")

    def let_go(self, image: str) -> None:
        """Nobody on this host is to have an image open any more. Raises Refused."""
        end_all(self._home, image)

    def is_answered(self, pool: str, image: str) -> bool:
        """Whether the cluster tells of an image within some seconds. `pool`: as RBD calls it."""
        for cluster in self:
            with contextlib.suppress(Refused):
                if cluster.pool == pool:
                    cluster.ask("rbd", "info", f"{pool}/{image}", patience=SECONDS_TO_ANSWER)
                    return True
        return False

    def facts(self) -> dict[str, Any]:
        """By the id of each that can be used: {"name": of its folder, "kind", "total_gib"}."""
        found = {}
        for cluster in self:
            cluster.look()
            if facts := cluster.facts:
                found[facts["pool"]] = {name: fact for name, fact in facts.items() if name != "pool"}
        return found

    def problems(self) -> list[dict[str, str]]:
        """For the host's heartbeat."""
        return [
            {"what": "Ceph", "problem": f"{cluster.name}: {cluster.problem}"} for cluster in self if cluster.problem
        ]
