"""One image file on its way into the cache: from a peer that the control plane names, or from the store.

The control plane is asked where to go (`/agent/v1/files/SHA256/turn`). It names a peer, or the store, or lets this host
wait a little for a peer that will have the file soon. Whatever goes wrong with that, the file comes from the store.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog

from agent.control_plane import ControlPlane
from agent.errors import Refused, Unreachable
from agent.work import Work
from storage.agent.peers import Peer, PeerBusy, PeerFailed

log = structlog.get_logger()

MIN_BYTES = 4 << 20  # of a file for which asking is worth while
MAX_FAILURES = 2  # of peers, before the store alone is asked
MAX_SECONDS_TO_WAIT = 300.0
MAX_PAUSE = 10.0
SECONDS_BETWEEN_PROGRESS = 3.0
STORE = "store"


class Fetch:
    """A file of `size` bytes that becomes `part`, whole, right and durable."""

    def __init__(self, control_plane: ControlPlane, sha256: str, size: int, part: Path, work: Work) -> None:
        self._control_plane = control_plane
        self._sha256, self._size, self._part, self._work = sha256, size, part, work
        self._turn = f"/agent/v1/files/{sha256}/turn"
        self._failed: list[dict[str, Any]] = []  # peers, and why, of which the control plane has not heard yet
        self._tried: list[str] = []  # peers that are not gone to again
        self._is_worth_asking = size >= MIN_BYTES
        self._asks_peers = True
        self._wait_until = time.monotonic() + MAX_SECONDS_TO_WAIT
        self._told_at = time.monotonic()
        self._received, self._digest = 0, hashlib.sha256()
        self._sources: list[str] = []  # of what has been received, the latest last

    def run(self) -> None:
        """Raises Unreachable, Refused, Abandoned or OSError; then the part is worth nothing."""
        with self._part.open("wb") as target:
            while True:
                if self._comes_from(self._next_peer(), target):
                    if self._is_right():
                        break
                    self._take_back(target)
            target.flush()
            os.fsync(target.fileno())

    def tell_done(self) -> None:
        """It is in the cache now: others may come for it. If nobody hears this, the next heartbeat says it."""
        if self._is_worth_asking:
            peers = [source for source in self._sources if source != STORE]
            self._tell("POST", {"size": self._size, "peer": peers[-1] if peers else None})

    def _next_peer(self) -> Peer | None:
        """The peer to go to; None: to the store. Waits its turn. Raises Abandoned."""
        while self._is_worth_asking:
            self._work.check()
            try:
                asked = {"size": self._size, "failed": self._failed, "tried": self._tried, "peers": self._asks_peers}
                turn = self._control_plane.ask("PUT", self._turn, asked)
                self._failed = []
                pause = float(turn.get("wait") or 0)
                peer = Peer.of(turn["peer"]) if turn.get("peer") and self._asks_peers else None
            except (Unreachable, Refused, KeyError, TypeError, ValueError) as problem:
                log.info("where an image file is could not be asked", sha256=self._sha256, problem=str(problem))
                return None
            if not pause or time.monotonic() > self._wait_until:
                return peer
            self._work.sleep(min(pause, MAX_PAUSE))
        return None

    def _comes_from(self, peer: Peer | None, target: Any) -> bool:
        """Whether all of it has come, be it right or not."""
        if peer is None:
            with self._control_plane.download(
                f"/agent/v1/files/{self._sha256}", f"image file {self._sha256}", offset=self._received
            ) as pieces:
                self._take(pieces, STORE, target)
            if self._received != self._size:
                raise Unreachable(f"{self._sha256}: received {self._received} of {self._size} bytes")
            return True
        try:
            self._take(peer.pieces(self._sha256, self._received, self._size, self._work), peer.id, target)
        except PeerBusy:
            self._note(peer.id, "")
        except PeerFailed as why:
            self._note(peer.id, str(why))
        return self._received == self._size

    def _take(self, pieces: Iterable[bytes], source: str, target: Any) -> None:
        for piece in pieces:
            self._work.check()
            self._sources = [*(one for one in self._sources if one != source), source]
            self._received += len(piece)
            if self._received > self._size:
                break
            self._digest.update(piece)
            target.write(piece)
            if self._is_worth_asking and time.monotonic() - self._told_at > SECONDS_BETWEEN_PROGRESS:
                self._told_at = time.monotonic()
                self._tell("PATCH", {"received": self._received})

    def _is_right(self) -> bool:
        return self._digest.hexdigest() == self._sha256

    def _take_back(self, target: Any) -> None:
        """Not what it should be. Who alone sent it has sent wrong bytes; of several nobody can tell which one."""
        if self._sources == [STORE]:
            raise Unreachable(f"{self._sha256}: received other bytes")
        if len(self._sources) == 1:
            self._note(self._sources[0], "it sent other bytes", wrong=True)
        else:
            self._is_worth_asking = False
        self._received, self._digest, self._sources = 0, hashlib.sha256(), []
        target.seek(0)
        target.truncate()

    def _note(self, peer: str, problem: str, *, wrong: bool = False) -> None:
        """A peer did not serve it; no problem: it was merely busy."""
        log.info("a peer did not serve", sha256=self._sha256, peer=peer, problem=problem or "busy")
        self._failed.append({"peer": peer, "problem": problem, "wrong": wrong})
        if problem:
            self._tried.append(peer)
            self._asks_peers = len(self._tried) < MAX_FAILURES

    def _tell(self, method: str, body: dict[str, Any]) -> None:
        with contextlib.suppress(Unreachable):
            self._control_plane.tell(method, self._turn, json=body, ignored=(400, 404, 405, 409, 410, 429))
