"""The layers of a volume in Ceph: those that follow each other in one image, and clones of what is kept of others."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent import faults
from agent.errors import Refused
from storage.agent.rbd import Images

faults.declare("rbd.before_make", "rbd.before_forget", "rbd.before_remove")


@dataclass(frozen=True)
class RbdTree:
    """What an order says of a volume. `begin`: makes the image of a layer that lies on no other. Every method may raise
    Refused."""

    images: Images
    spec: dict[str, Any]
    begin: Callable[[dict[str, Any]], None]
    _kept: dict[str, set[str]] = field(default_factory=dict)

    def make(self) -> set[str]:
        """Make what is missing. The layers that are not there yet: the guest still writes what they are to lie on."""
        known = {layer["id"]: layer for layer in self.spec["layers"]}
        below = {layer["id"]: known.get(layer["parent"] or "") for layer in self.spec["layers"]}
        gone_on = {one["parent"] for one in known.values() if one["made"] and self._goes_on(one, below[one["id"]])}
        to_come = set()
        for layer in self.spec["layers"]:
            under = below[layer["id"]]
            if not self._goes_on(layer, under):
                self._make(layer, under)
            elif layer["parent"] not in self._kept_of(layer["rbd"]):
                to_come.add(layer["id"])
            if layer["id"] in self.spec["to_keep"]:
                self._keep(layer["rbd"], layer["id"], was_kept=layer["id"] in gone_on)
        for layer_id in set(self.spec["to_keep"]) - known.keys():  # of its snapshots, on other branches
            if self.images.exists(self.spec["images"][layer_id]):
                self._keep(self.spec["images"][layer_id], layer_id)
        return to_come

    def _make(self, layer: dict[str, Any], below: dict[str, Any] | None) -> None:
        if self.images.exists(layer["rbd"]):
            return
        if layer["made"]:
            raise Refused(f"an image of this volume is missing in Ceph ({layer['rbd']}): it is not made anew")
        faults.reach("rbd.before_make")
        if below is None:
            self.begin(layer)
        else:
            self.images.clone(layer["rbd"], layer["size_bytes"], of=below["rbd"], layer=below["id"])

    def _keep(self, image: str, layer_id: str, *, was_kept: bool = False) -> None:
        if layer_id not in self._kept_of(image):
            if was_kept:  # by now it would be something else
                raise Refused(f"what was kept of an image of this volume is missing in Ceph (layer {layer_id})")
            self.images.keep(image, layer_id)
            self._kept_of(image).add(layer_id)

    def _goes_on(self, layer: dict[str, Any], below: dict[str, Any] | None) -> bool:
        """Whether it is the same image, later."""
        return below is not None and below["rbd"] == layer["rbd"]

    def _kept_of(self, image: str) -> set[str]:
        if image not in self._kept:
            self._kept[image] = set(self.images.kept(image))
        return self._kept[image]


def clear_away(
    images: Images, gone: Mapping[str, Iterable[str]], needed: Mapping[str, set[str]], sealed: Collection[str]
) -> None:
    """Remove layers, by their images, that nobody needs any more. `needed`: the layers that somebody needs, by the
    images that have some; none where it is not known which. `sealed`: those that nobody writes. Raises Refused.

    What is on an image now goes as soon as all that is needed of it is kept. A layer that somebody writes, when the
    order was made, may have been kept and written on since: so that it is kept does not suffice.
    """
    alone = []
    for image, layers in gone.items():
        if image not in needed:
            alone.append(image)
            continue
        for layer_id in layers:
            faults.reach("rbd.before_forget")
            images.forget(image, layer_id)
        if needed[image] and needed[image].issubset(sealed) and needed[image].issubset(images.kept(image)):
            images.empty(image)
    _remove(images, alone)


def _remove(images: Images, alone: list[str]) -> None:
    """Clones before what they are clones of, in whatever order they come."""
    while alone:
        left, problem = [], None
        for image in alone:
            faults.reach("rbd.before_remove")
            try:
                images.remove(image)
            except Refused as refused:
                left.append(image)
                problem = refused
        if len(left) == len(alone) and problem:
            raise problem
        alone = left
