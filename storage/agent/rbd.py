"""The images of a pool in Ceph, by their ids, and what is kept of them.

A layer that nobody writes any more is a snapshot of its image, named by the layer's id; the layer that is written is
the image itself. Only Ceph's own programs are used, and what they do can be done again.
"""

import itertools
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from agent import faults
from agent.errors import Refused
from storage.agent.ceph import Cluster, Failed
from storage.agent.nbd import InCeph, Server
from storage.agent.relays import end_all

NEW = ".new"  # at the end of the name of an image that is not whole
SECONDS_TO_REMOVE = 600.0  # a large image has many objects
SECONDS_TO_KEEP = 10.0  # a snapshot: a guest may stand still meanwhile
NOT_THERE, IS_THERE, IS_USED = 2, 17, 39  # what Ceph's programs end with: ENOENT, EEXIST, ENOTEMPTY
CLONES = "--rbd-default-clone-format=2"  # of snapshots that need not be protected, and may go before their clones

faults.declare("rbd.before_keep", "rbd.before_rename")


class Guard(Protocol):
    """Whose images are: see `storage.agent.rbd_owners`."""

    def require(self, images: "Images", image: str) -> None:
        """Raises Refused when an image is another host's by now."""


@dataclass(frozen=True)
class Images:
    """Those of one pool. Every method may raise Refused, also when the cluster does not answer. `guard`: asked before
    and after whatever changes an image; None: for what nobody needs any more, or if it is not known whose it is."""

    cluster: Cluster
    guard: Guard | None = None

    def exists(self, image: str) -> bool:
        return self._info(image) is not None

    def size(self, image: str) -> int:
        """The bytes that a guest sees."""
        info = self._info(image)
        if info is None:
            raise Refused(f"an image of this volume is missing in Ceph ({image})")
        return int(info["size"])

    def create(self, image: str, size: int) -> None:
        """Make an empty image that is not there."""
        create = ("create", "--size", f"{-(-size >> 20)}M", self._name(image))
        try:
            self._change(image, *create)
        except Failed as failed:
            if failed.code != IS_THERE:
                raise
            if self.exists(image):
                raise Refused(f"an image of this volume is in Ceph already ({image})") from failed
            self._remove(image)  # somebody died while making it: it has a name, and no more
            self._change(image, *create)

    def create_filled(self, image: str, size: int, fill: Callable[[Callable[[], int]], None]) -> None:
        """Make an image of what `fill` writes, whole or not at all. That gets a function that makes connections (NBD),
        and closes them. Raises what that raises."""
        new = image + NEW
        self._remove(new)
        self.create(new, size)
        fill(lambda: self.connect(new, size, read_only=False))
        end_all(self.cluster.owner, new)  # with what it has in hand
        self._put(image)

    def clone(self, image: str, size: int, *, of: str, layer: str) -> None:
        """Make an image that begins with what is kept of another one, whole or not at all. It is never smaller."""
        new = image + NEW
        self._remove(new)
        self._change(new, "clone", CLONES, self._name(of, layer), self._name(new))
        self.grow(new, size)
        self._put(image)

    def _put(self, image: str) -> None:
        faults.reach("rbd.before_rename")
        self._change(image, "rename", self._name(image + NEW), self._name(image))

    def grow(self, image: str, size: int) -> None:
        """Make an image at least this large."""
        if self.size(image) < size:
            self._resize(image, size)

    def _resize(self, image: str, size: int, *how: str) -> None:
        how = ("--no-progress", *how, "--size", f"{size >> 20}M")
        self._change(image, "resize", *how, self._name(image), patience=SECONDS_TO_REMOVE)

    def kept(self, image: str) -> dict[str, int]:
        """The layers that are kept of an image, and the bytes that a guest sees of each; none of one that is not
        there."""
        try:
            said = self.cluster.ask("rbd", "snap", "ls", "--format", "json", self._name(image))
        except Failed as failed:
            self._require_missing(failed)
            return {}
        return {one["name"]: int(one["size"]) for one in json.loads(said)}

    def keep(self, image: str, layer: str) -> bool:
        """Keep what is on an image now; False if this layer is kept already."""
        faults.reach("rbd.before_keep")
        try:
            keep = ("snap", "create", "--no-progress", self._name(image, layer))
            self._change(image, *keep, patience=min(SECONDS_TO_KEEP, self.cluster.patience))
        except Failed as failed:
            if failed.code != IS_THERE:
                raise
            return False
        return True

    def forget(self, image: str, layer: str) -> None:
        """Keep a layer no longer, if it is kept: what nobody else needs of it is gone."""
        try:
            forget = ("snap", "rm", "--no-progress", self._name(image, layer))
            self._change(image, *forget, patience=SECONDS_TO_REMOVE)
        except Failed as failed:
            self._require_missing(failed)

    def empty(self, image: str) -> None:
        """Give back what is on an image that nobody writes any more, and in no layer that is kept of it."""
        if self.exists(image):
            self._resize(image, 0, "--allow-shrink")

    def remove(self, image: str) -> None:
        """Remove an image that nobody uses with all that is kept of it, and what is left of making it."""
        for name in (image + NEW, image):
            self._remove(name)
        self._require(image)
        try:
            self.rados("rm", owners_of(image))
        except Failed as failed:
            if not failed.is_missing:
                raise

    def _remove(self, name: str) -> None:
        end_all(self.cluster.owner, name)
        for words in (("snap", "purge"), ("rm",)):
            try:
                self._change(name, *words, "--no-progress", self._name(name), patience=SECONDS_TO_REMOVE)
            except Failed as failed:
                if failed.code == IS_USED:
                    raise Refused("other images in Ceph stand on this one: they have to be removed first") from failed
                self._require_missing(failed)

    def opened_by(self, image: str) -> set[str]:
        """The addresses of the programs that may write an image, or what is to become it: those that watch it, and who
        has its lock."""
        found, questions = set(), ((("status",), "watchers"), (("lock", "ls"), ""))
        for name, (words, where) in itertools.product((image, image + NEW), questions):
            try:
                said = json.loads(self.cluster.ask("rbd", *words, "--format", "json", self._name(name)))
            except Failed as failed:
                if not failed.is_missing:
                    raise
                continue
            found |= {one["address"] for one in (said[where] if where else said)}
        return found

    def rados(self, *words: str) -> str:
        """What `rados` says about an object that is no part of an image."""
        return self.cluster.ask("rados", "--pool", self.cluster.pool, *words)

    def connect(
        self,
        image: str,
        size: int = 0,
        *,
        read_only: bool,
        layer: str = "",
        holder: str = "",
    ) -> int:
        """A connection to a server of an image, or of a layer that is kept of it: the descriptor of a socket on which
        NBD is spoken. The server ends with the connection. One that is written is grown to this size before.
        `holder`: see Server. One that is written is ended if the image is another host's when it has been opened."""
        if not read_only:
            self.grow(image, size)
        cluster = self.cluster
        key = cluster.run(
            "ceph-authtool", "--print-key", "--name", f"client.{cluster.user}", os.fspath(cluster.keyring)
        )
        node = {"driver": "rbd", "pool": cluster.pool, "image": _checked(image), "user": cluster.user}
        if layer:
            node["snapshot"] = _checked(layer)
        source = InCeph(node, conf=cluster.conf.read_bytes(), key=key.strip().encode())
        server = Server(cluster.owner, source, holder)
        check = (lambda: None) if read_only else partial(self._require, image)
        return server.start(cluster.jail, read_only=read_only, check=check)

    def _change(self, image: str, *words: str, patience: float | None = None) -> str:
        """What `rbd` says that changes an image, or what is to become it. Whoever takes the image over meanwhile keeps
        out what has it open by then; what was a moment too late for that is no longer said to be done."""
        self._require(image)
        said = self.cluster.ask("rbd", *words, patience=patience)
        self._require(image)
        return said

    def _require(self, image: str) -> None:
        if self.guard:
            self.guard.require(self, image.removesuffix(NEW))

    def _info(self, image: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.cluster.ask("rbd", "info", "--format", "json", self._name(image)))
        except Failed as failed:
            self._require_missing(failed)
            return None
        return found

    def _require_missing(self, failed: Failed) -> None:
        """Raises Refused unless what was asked for is missing, and not all of its pool: that ends alike."""
        if failed.code != NOT_THERE:
            raise failed
        self.cluster.ask("rbd", "namespace", "ls", self.cluster.pool)

    def _name(self, image: str, layer: str = "") -> str:
        return f"{self.cluster.pool}/{_checked(image)}" + (f"@{_checked(layer)}" if layer else "")


def owners_of(image: str) -> str:
    """The object that says whose an image is: see `storage.agent.rbd_owners`."""
    return f"pileus.owner.{_checked(image)}"


def _checked(name: str) -> str:
    """The name of an image, or of what is kept of one. Raises ValueError for what is no id."""
    return str(uuid.UUID(name.removesuffix(NEW))) + (NEW if name.endswith(NEW) else "")
