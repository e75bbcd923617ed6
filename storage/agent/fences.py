"""Whose a tree of layers in a shared folder is, so that it can be taken from a host that is not heard of any more.

Two kinds of small files in the folder:

- `owners/TREE`: the host that may write it, and the term of that: a number that rises each time the tree gets another
  host. Who comes with a lower term than the file's is too late.
- `hosts/HOST`: the host's beat, which it writes anew every few seconds. First it looks whose the trees are that its
  emulators have open, and kills those that have one which is another host's by now.

So who has made itself the owner, and has seen two more beats of the host before, knows that nothing there writes any
more: the second of them began after the first. A host of which no beat comes is dead, or cut off from the folder; then
the file server has forgotten its locks after a while, and refuses what it still may send.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog

from agent import faults, folders
from agent.durability import sync_directory, sync_file, write_secret
from agent.errors import Refused
from agent.paths import Paths
from agent.work import Work
from storage.agent.pools import Pools, pools_of

log = structlog.get_logger()

OWNERS, HOSTS = "owners", "hosts"
MAX_BYTES = 4096
SECONDS_BETWEEN_BEATS = 2.0
SECONDS_UNTIL_DEAD = 100.0  # without a beat; NFS servers let go of a silent host's locks after 90, as a rule

faults.declare("fences.before_owner", "fences.before_wait", "fences.before_done")


@dataclass(frozen=True)
class Share:
    """A tree in a shared folder as the control plane says that it is this host's. `taken_from`: hosts that were not
    asked, by what they call themselves."""

    pool: str
    tree: str
    term: int
    taken_from: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: dict[str, Any]) -> "Share | None":
        """Of a volume, or of a disk of a machine; None of one on the host's own disk."""
        if not spec.get("pool") or not spec.get("term"):
            return None
        return cls(spec["pool"], spec["tree"], int(spec["term"]), tuple(spec.get("taken_from") or ()))


@dataclass(frozen=True)
class Owner:
    """What the file of a tree says. `waits_for`: hosts that may still write, as far as the owner knows."""

    host: str
    term: int
    waits_for: tuple[str, ...] = ()

    def is_after(self, share: Share, host: str) -> bool:
        """Whether the tree has come to another host since it was this one's."""
        return self.host != host and self.term >= share.term


class Fences:
    """Those of this host. `host`: what it calls itself in shared folders."""

    def __init__(self, pools: Pools, host: str) -> None:
        self.pools, self.host = pools, host
        self.seconds_until_dead = SECONDS_UNTIL_DEAD
        self._changed = threading.Condition()
        self._entering: dict[object, frozenset[str]] = {}  # what is about to have trees open: of which pools

    # Beginning to write

    @contextmanager
    def entered(self, shares: Iterable[Share], work: Work) -> Iterator[None]:
        """Open the layers of these trees, or start what has them open, within. Raises Refused when one is not this
        host's, also at the end: then what was begun must not go on."""
        own = tuple(shares)
        for share in own:
            self.claim(share, work)
        token = object()
        with self._changed:
            self._entering[token] = frozenset(share.pool for share in own)
        try:
            self._require(own)
            yield
            self._require(own)
        finally:
            with self._changed:
                del self._entering[token]
                self._changed.notify_all()

    def claim(self, share: Share, work: Work) -> None:
        """Make this host the owner of a tree, unless it is; returns when nobody else can write it. Raises Refused."""
        owner = self._owner(share)
        if owner and owner.is_after(share, self.host):
            raise _taken()
        waits_for = set(owner.waits_for if owner else ())
        if owner is None or owner.term < share.term:
            waits_for |= {*share.taken_from}
            faults.reach("fences.before_owner")
            self._write(share, Owner(self.host, share.term, tuple(sorted(waits_for - {self.host}))))
        if waits_for := waits_for - {self.host}:
            faults.reach("fences.before_wait")
            log.info("waiting until other hosts cannot write any more", tree=share.tree, hosts=sorted(waits_for))
            with work.waiting():
                self._wait_for(share.pool, waits_for, work)
            self._require((share,))
            faults.reach("fences.before_done")
            self._write(share, Owner(self.host, share.term))

    def forget(self, share: Share) -> None:
        """Nothing of a tree is left."""
        owner = self._owner(share)
        if owner and owner.host == self.host:
            self.pools.ask(share.pool, lambda folder: (folder / OWNERS / _name(share.tree)).unlink(missing_ok=True))

    def _require(self, shares: Iterable[Share]) -> None:
        for share in shares:
            if share in self._lost(share.pool, [share]):
                raise _taken()

    def _wait_for(self, pool: str, hosts: Iterable[str], work: Work) -> None:
        """Until each of these hosts has shown two more beats, or none for so long that it is dead or cut off."""
        last = {host: self._beat_of(pool, host) for host in hosts}
        patience = self.seconds_until_dead
        since, more = dict.fromkeys(last, time.monotonic()), dict.fromkeys(last, 0)
        while left := [host for host in last if more[host] < 2 and time.monotonic() < since[host] + patience]:
            work.sleep(SECONDS_BETWEEN_BEATS / 4)
            for host in left:
                beat = self._beat_of(pool, host)
                if beat != last[host]:
                    last[host], since[host], more[host] = beat, time.monotonic(), more[host] + 1

    # Going on

    def beat(self, pool: str, used: Callable[[], Iterable[Share]], end: Callable[[Share], None]) -> None:
        """One round: `end` what has a tree open that is another host's by now, then show the next beat. `used`: the
        trees that are open. Raises Refused, OSError; whatever is raised, there is no beat."""
        with self._changed:
            before = set(self._entering)
            if not self._changed.wait_for(lambda: not self._beginning(pool, before), SECONDS_BETWEEN_BEATS):
                return  # what hangs meanwhile may begin to write: no beat says that nothing does
        for share in self._lost(pool, [share for share in used() if share.pool == pool]):
            log.error("another host has taken a volume over", tree=share.tree)
            end(share)
        self._put(pool, f"{HOSTS}/{self.host}", uuid.uuid4().hex)

    def _beginning(self, pool: str, before: set[object]) -> bool:
        return any(token in before and pool in pools for token, pools in self._entering.items())

    def _lost(self, pool: str, shares: list[Share]) -> list[Share]:
        def look(folder: Path) -> list[Share]:
            owners = ((share, _read_owner(folder, share.tree)) for share in shares)
            return [share for share, owner in owners if owner and owner.is_after(share, self.host)]

        return self.pools.ask(pool, look)

    # Files

    def _owner(self, share: Share) -> Owner | None:
        return self.pools.ask(share.pool, lambda folder: _read_owner(folder, share.tree))

    def _write(self, share: Share, owner: Owner) -> None:
        self._put(share.pool, f"{OWNERS}/{_name(share.tree)}", json.dumps(asdict(owner)))

    def _put(self, pool: str, name: str, content: str) -> None:
        """Write a file anew, so that others see the old one or the new one."""

        def put(folder: Path) -> None:
            path = folder / name
            new = path.with_name(f"{path.name}.{self.host}.new")  # nobody else's
            path.parent.mkdir(mode=0o700, exist_ok=True)
            new.unlink(missing_ok=True)
            with folders.create_file(new) as file:
                file.write(content.encode())
            sync_file(new)
            new.rename(path)
            sync_directory(path.parent)

        self.pools.ask(pool, put)

    def _beat_of(self, pool: str, host: str) -> bytes | None:
        return self.pools.ask(pool, lambda folder: _read(folder / HOSTS / _name(host)))


def _taken() -> Refused:
    return Refused("another host has taken this volume over: nothing here may write it any more")


def _name(ident: str) -> str:
    return str(uuid.UUID(ident))


def _read(path: Path) -> bytes | None:
    try:
        return folders.read_file(path, MAX_BYTES)
    except FileNotFoundError:
        return None


def _read_owner(folder: Path, tree: str) -> Owner | None:
    """Raises OSError, and Refused for what cannot be read: then nobody knows whose it is."""
    content = _read(folder / OWNERS / _name(tree))
    if content is None:
        return None
    try:
        told = json.loads(content)
        return Owner(str(told["host"]), int(told["term"]), tuple(map(str, told["waits_for"])))
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"the file that says whose a volume is cannot be read: {OWNERS}/{tree}") from error


@cache
def _of(home: Path, pools: Pools) -> Fences:
    named = home / "shared-name"
    if (content := _read(named)) is None:
        content = str(uuid.uuid4()).encode()
        write_secret(named, content.decode())
    return Fences(pools, _name(content.decode().strip()))


def fences_of(paths: Paths) -> Fences:
    """Those of a host: the same ones for all of its kinds."""
    return _of(paths.home, pools_of(paths))
