"""Whose an image in Ceph is, so that it can be taken from a host that is not heard of any more.

An object `pileus.owner.IMAGE` beside each image has a key for each host that the image came to: the *term* of that, a
number that rises with each host, and the host's name. The highest term is the owner's. Nobody writes over what another
host has written, so two that come at once lose nothing. It is no metadata of the image: that is written by whoever has
the image open, which may be the one to be kept out.

Who takes an image writes its term first, then puts all who have the image open on the blocklist of the cluster, which
refuses what they send from then on. Who opens an image looks whose it is afterwards. So one of both sees the other.
"""

import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from agent import faults
from agent.errors import Refused
from storage.agent.ceph import Failed
from storage.agent.rbd import NEW, Images, owners_of
from storage.agent.relays import end_all

log = structlog.get_logger()

ALONE = "alone"
SECONDS_ON_BLOCKLIST = 365 * 86_400  # longer than any program that may come back
SECONDS_TO_FENCE = 60.0
A_PROGRAM = re.compile(r"\S+:\d+/[1-9]\d*")  # of a host; an address without a number would be all of the host's

faults.declare("rbd.before_owner", "rbd.before_fence", "rbd.before_alone")

_turns: dict[Path, threading.Lock] = {}  # a taking over must not meet an opening on this host


@dataclass(frozen=True)
class Claim:
    """An image as the control plane says that it is this host's. `host`: what this one calls itself; `taken_from`:
    hosts that were not asked."""

    host: str
    term: int
    taken_from: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: dict[str, Any], host: str) -> "Claim | None":
        """Of a volume, or of a disk of a machine; None of one that is not in Ceph."""
        if not spec.get("ceph") or not spec.get("term"):
            return None
        return cls(host, int(spec["term"]), tuple(spec.get("taken_from") or ()))

    def make(self, images: Images, image: str) -> None:
        """Make this host the owner of an image, unless it is; returns when nobody else can write it. Raises Refused."""
        with _turns.setdefault(images.cluster.folder, threading.Lock()):
            self._make(images, image)

    def _make(self, images: Images, image: str) -> None:
        last = self._require(images, image)
        is_ours = last is not None and last.host == self.host and last.term >= self.term
        if last and is_ours and last.alone:
            return
        if is_ours or {*self.taken_from} - {self.host} or (last and not last.alone):
            faults.reach("rbd.before_owner")
            _write(images, image, Owner(self.term, self.host))
            faults.reach("rbd.before_fence")
            _fence(images, image)
            self._require(images, image)
        faults.reach("rbd.before_alone")
        _write(images, image, Owner(self.term, self.host, alone=True))

    def require(self, images: Images, image: str) -> None:
        """Raises Refused when the image has come to another host since it was this one's."""
        self._require(images, image)

    def _require(self, images: Images, image: str) -> "Owner | None":
        last = max(_read(images, image), key=lambda owner: (owner.term, owner.alone), default=None)
        if last and last.host != self.host and last.term >= self.term:
            raise Refused("another host has taken this volume over: nothing here may write it any more")
        return last


@dataclass(frozen=True)
class Owner:
    """`alone`: whether nobody else could write the image, once."""

    term: int
    host: str
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.term} {self.host}" + (f" {ALONE}" if self.alone else "")


def _read(images: Images, image: str) -> Iterable[Owner]:
    try:
        keys = images.rados("listomapkeys", owners_of(image)).splitlines()
    except Failed as failed:
        if not failed.is_missing:
            raise
        return
    for key in keys:
        try:
            term, host, *alone = key.split()
            yield Owner(int(term), host, alone == [ALONE])
        except ValueError:
            words = f"the object in Ceph that says whose an image is cannot be read: {owners_of(image)}"
            raise Refused(words) from None


def _write(images: Images, image: str, owner: Owner) -> None:
    images.rados("setomapval", owners_of(image), str(owner), "1")


def _fence(images: Images, image: str) -> None:
    """Have the cluster refuse whoever has an image open; servers of this host are left from an earlier term."""
    for name in (image, image + NEW):
        end_all(images.cluster.owner, name)
    deadline = time.monotonic() + SECONDS_TO_FENCE
    fenced: set[str] = set()
    while others := images.opened_by(image) - fenced:
        if time.monotonic() > deadline:
            raise Refused("others go on opening an image in Ceph that is to be taken from them")
        for address in sorted(others):
            if not A_PROGRAM.fullmatch(address):
                raise Refused(f"who has an image in Ceph open cannot be kept from writing: {address}")
            log.warning("kept from writing by the blocklist of Ceph", image=image, address=address)
            images.cluster.ask("ceph", "osd", "blocklist", "add", address, str(SECONDS_ON_BLOCKLIST))
            fenced.add(address)
