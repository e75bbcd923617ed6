"""The kind `volume`: what the host does with the files of volumes that no emulator has open.

A layer is removed once an order of a volume that knew it does not need it any more, and says that nobody else does.
What was needed by nobody once is needed by nobody later, so an order that comes late removes nothing that is in use.
"""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, ClassVar

import structlog

from agent import faults, folders
from agent.entries import Entry
from agent.errors import YOU, Refused, told
from agent.host import Host
from agent.kinds import Kind, Sight, Tools
from agent.work import Work
from storage.agent import nbd_places, qemu_img, transfers
from storage.agent.captures import Chain
from storage.agent.confined import Helpers
from storage.agent.fences import Share
from storage.agent.image_cache import ImageCache
from storage.agent.layer_notes import Note, Notes, images_to_keep
from storage.agent.layers import Layers
from storage.agent.merging import Merge
from storage.agent.rbd import Images
from storage.agent.rbd_content import First
from storage.agent.rbd_owners import Claim
from storage.agent.rbd_trees import RbdTree, clear_away
from storage.agent.restores import Restore
from storage.agent.serving import Serving, Wanted, chain_of

log = structlog.get_logger()

TYPE = "volume"

faults.declare("volume.after_make", "volume.before_forget")


class Volumes(Kind):
    """Volumes on this host. In quarantine nobody on another host reaches one; otherwise it does nothing by itself."""

    type: ClassVar[str] = TYPE
    goes_last: ClassVar[bool] = True  # machines here write to what is served to them as they go off
    suffices: ClassVar[bool] = False
    verbs: ClassVar[dict[str, str]] = {"ensure_present": "present", "ensure_gone": "gone"}

    def __init__(self, tools: Tools) -> None:
        self._paths, self._control_plane = tools.paths, tools.control_plane
        self._ledger = tools.ledger
        self._notes = Notes(tools.ledger)
        self.cache = ImageCache(tools.paths, tools.control_plane, tools.is_file_used, tools.problems)
        self._helpers = Helpers(tools.paths, tools.jail)
        self.layers = Layers(tools.paths, tools.jail)
        self.serving = Serving(tools.paths, tools.jail, tools.ledger, self.layers.fences.host)

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        if verb == "ensure_gone":
            return self._remove(entry, work.order.get("spec"))
        spec = entry.spec
        wanted = [layer["id"] for layer in spec["layers"]]
        # What is still on its way is another host's.
        claim = None if spec.get("arrivals") else self.layers.claim_of(spec)
        store = self._store(spec.get("ceph"), claim)
        self._notes.note(entry.id, spec, [*wanted, *spec["keep"]])
        if arrivals := spec.get("arrivals"):
            self._take_in(arrivals, {*wanted, *spec["keep"]})
        if pool := spec.get("pool"):
            self.layers.place(pool)  # refuses, where what is there would seem to be lost
        share = None if arrivals else Share.of(spec)
        if share:
            self.layers.fences.claim(share, work)
        to_come: set[str] = set()
        if isinstance(store, Images):
            if claim:
                for image in sorted({layer["rbd"] for layer in spec["layers"]}):
                    claim.make(store, image)
            first = First(store, self.layers, self._helpers, self._control_plane, work)
            to_come = RbdTree(store, spec, lambda layer: first.make(layer, self._base)).make()
        else:
            for layer in spec["layers"]:
                self._make(layer, spec, work)
        faults.reach("volume.after_make")
        served = self._serve(entry, work)
        if not spec["held"] and not (pool and arrivals):
            with self.layers.fences.entered([share] if share else [], work):
                self._grow(spec, store)
        kept = {*wanted, *spec["keep"]}
        self._clear_away(entry.id, kept, spec.get("images", {}), spec.get("sealed", ()), claim=claim)
        return "present", self._facts(spec, store, to_come) | served

    def _serve(self, entry: Entry, work: Work) -> dict[str, Any]:
        """Have a machine on another host reach the volume as it is now, if one is to; else nobody. Facts about it."""
        spec, serve = entry.spec, entry.spec.get("serve")
        if not serve:
            self.serving.end(entry.id)
            return {}
        layers = {layer["id"]: layer for layer in spec["layers"]}
        files = [*self._below(layers[spec["active"]], spec, work), self._file(spec["active"])]
        size = int(spec["size_gib"]) << 30
        wanted = Wanted(entry.id, serve["id"], serve["key"], serve["read_only"], size, chain_of(files))
        if self.serving.is_kept(wanted):
            return {"served": self.serving.facts_of(wanted)}
        self.serving.end(entry.id, but_for=serve["id"])
        self._grow(spec, self.layers)  # nothing has it open now
        return {"served": self.serving.start(wanted)}

    def _store(self, ceph: str | None, claim: Claim | None = None) -> Layers | Images:
        """Where the layers of a volume are. `ceph`: the pool of a cluster. Raises Refused when that is not reached."""
        return Images(self.layers.clusters.get(ceph), claim) if ceph else self.layers

    def _grow(self, spec: dict[str, Any], store: Layers | Images) -> None:
        """See to the layers themselves, which nothing has open."""
        store.grow(_written(spec), spec["size_gib"] << 30)
        for layer in spec["layers"] if store is self.layers else ():
            if layer["parent"]:
                self.layers.lie_on(layer["id"], layer["parent"])

    def _take_in(self, arrivals: dict[str, Any], needed: Collection[str]) -> None:
        """Put the layers that a transfer has brought in their places, as far as they are needed still."""
        for layer_id in set(arrivals["layers"]).intersection(needed):
            brought = transfers.find(self._paths, arrivals["transfer"], TYPE, arrivals["tree"], layer_id)
            if brought is not None and not self.layers.exists(layer_id):
                self.layers.take_in(layer_id, brought)

    def find_file(self, resource_id: str, name: str) -> Path | None:
        """See storage.agent.transfers.HasFiles: the layers of a tree."""
        path = self.layers.path(name)
        if not path.exists():
            raise Refused(f"a file of this volume is missing on its host (layer {name})")
        return path

    def _make(self, layer: dict[str, Any], spec: dict[str, Any], work: Work) -> None:
        """Make a layer that is not there. One that has been there once is lost, and an empty one would hide that."""
        if self.layers.exists(layer["id"]):
            return
        if layer["made"]:
            raise Refused(f"a file of this volume is missing on its host (layer {layer['id']}): it is not made anew")
        if backup := layer.get("backup"):
            restore = Restore(self._control_plane, layer["id"], work)
            self.layers.create_filled(
                layer["id"], lambda new: restore.write(new, int(backup["size_gib"])), pool=spec.get("pool")
            )
            return
        if merged := layer.get("merge"):
            merge = Merge(self.layers, self._helpers, self._control_plane, work, spec.get("pool"))
            merge.make(layer["id"], [self._file(one) for one in merged], self._below(layer, spec, work))
            return
        base = self._base(layer["image"], work) if layer["image"] else None
        self.layers.create(layer["id"], layer["size_bytes"], parent=layer["parent"], base=base, pool=spec.get("pool"))

    def _base(self, image: dict[str, Any], work: Work) -> tuple[Path, str]:
        """The file of an image that a layer lies on."""
        if image["format"] not in (qemu_img.QCOW2, qemu_img.RAW):
            raise Refused(f"a volume cannot begin with an image of the format {image['format']}", fix_by=YOU)
        return self.cache.fetch(image, work), image["format"]

    def _file(self, layer_id: str) -> tuple[Path, str]:
        return self.layers.path(layer_id), self.layers.format_of(layer_id)

    def _below(self, layer: dict[str, Any], spec: dict[str, Any], work: Work) -> Chain:
        """The files that a layer lies on, the lowest first."""
        known = {one["id"]: one for one in spec["layers"]}
        below: Chain = []
        while layer["parent"]:
            layer = known[layer["parent"]]
            below.insert(0, self._file(layer["id"]))
        return [self._base(layer["image"], work), *below] if layer["image"] else below

    def _remove(self, entry: Entry, spec: dict[str, Any] | None) -> Sight:
        """Remove what only this volume stands on. The ledger keeps no spec of an order like this, so what others need
        is struck out there first."""
        self.serving.end(entry.id)
        tree = self._notes.tree_of(entry.id)
        if spec is not None:
            shared = set(spec["keep"] if "keep" in spec else self._needed_by_others(entry))
            if (pool := spec.get("pool")) and not shared.issuperset(self._notes.of(entry.id)):
                self.layers.place(pool)  # refuses: what cannot be reached would be left there for ever
            for image in self._notes.images_alone(entry.id):
                self.layers.clusters.let_go(image)
            self._notes.give_up(entry.id, shared, spec)
        elif not self._notes.is_going(entry.id):
            raise Refused("what other volumes need was not said: the order has to come again")
        own = self._notes.of(entry.id)
        self._clear_away(entry.id, (), images_to_keep(spec or {}), (spec or {}).get("sealed", ()))
        faults.reach("volume.before_forget")
        self._notes.is_gone(entry.id)
        there = self._there(tree)
        if own and not there and spec and (share := Share.of(spec)):
            self.layers.fences.forget(share)
        return "gone", {"layers": there}

    def _needed_by_others(self, entry: Entry) -> Iterable[str]:
        """Of one that the control plane does not know: all that others know of, also those on other hosts."""
        noted = self._notes.of(entry.id).items()
        yield from (layer_id for layer_id, note in noted if note["ceph"] or self.layers.is_shared(layer_id))
        for other in self._ledger.entries(TYPE):
            if other.id != entry.id and other.seen != "gone":
                yield from (layer["id"] for layer in other.spec.get("layers", ()))
                yield from other.spec.get("keep", ())

    def _clear_away(
        self,
        volume_id: str,
        keep: Collection[str],
        images: dict[str, str],
        sealed: Collection[str],
        *,
        claim: Claim | None = None,
    ) -> None:
        """`images`: those of all layers in Ceph that somebody needs; `sealed`: which of these nobody writes. `claim`:
        None when the volume leaves: then what nobody needs any more goes, whoever has the rest."""
        gone = {layer_id: note for layer_id, note in self._notes.of(volume_id).items() if layer_id not in keep}
        for layer_id, note in gone.items():
            if not note["ceph"]:
                self.layers.remove(layer_id)
                self._notes.forget(layer_id)
        for ceph in {note["ceph"] for note in gone.values() if note["ceph"]}:
            there = {layer_id: note for layer_id, note in gone.items() if note["ceph"] == ceph}
            store = Images(self.layers.clusters.get(ceph), claim)
            clear_away(store, _by_image(there), _needed(there, images), sealed)
            for layer_id in there:
                folders.remove(self.layers.workshop(layer_id))  # of a worker that died
            self._notes.forget(*there)

    def look(self, entry: Entry, ended: str) -> Sight | None:
        """Whether its files are there still. What is in Ceph is not looked for: whether that answers, the host says."""
        if entry.seen != "present" or entry.spec.get("ceph"):
            return None
        try:
            lost = self.layers.lost([layer["id"] for layer in entry.spec["layers"]], entry.spec.get("pool"))
        except Refused as problem:
            return "broken", {"problem": str(problem)}
        if lost:
            return "broken", {"problem": f"files of this volume are missing on its host (layers {', '.join(lost)})"}
        if entry.spec.get("serve") and not entry.quarantined:
            return self._look_at_service(entry)
        return None

    def _look_at_service(self, entry: Entry) -> Sight | None:
        """What serves it may have died, or the host was down: its guest waits for it to be started again."""
        try:
            served = self._serve(entry, Work())
        except (Refused, OSError) as problem:
            return "broken", entry.facts | told(problem)
        return None if served["served"] == entry.facts.get("served") else ("present", entry.facts | served)

    def quarantine(self, entry: Entry) -> Sight | None:
        if serve := entry.spec.get("serve"):
            self.serving.end(entry.id, but_for=serve["id"])
        return None

    def interrupt(self, entry: Entry, grace: float) -> Sight | None:
        return self.quarantine(entry)  # it is served again by the next look

    def clear_up(self) -> None:
        self.serving.clear_up()
        nbd_places.sweep(self._paths.home)

    def capabilities(self) -> dict[str, Any]:
        able = dict.fromkeys(("layers", "restore", "merge"), qemu_img.is_there())
        able |= {"layers_in_ceph": True, "fences_in_ceph": True}
        able["nbd"] = shutil.which("qemu-nbd") is not None  # it reaches those that other hosts serve
        pools = self.layers.pools.facts() | self.layers.clusters.facts() | self.serving.facts(self.layers.directory)
        return {"volumes": able, "pools": pools, "fence": self.layers.fences.host}

    def start(self, host: Host) -> None:
        host.problems_of += [self.layers.clusters.problems, self.serving.problems]

    def disk_bytes(self) -> int:
        return self.layers.used_bytes()

    def uses_file(self, entry: Entry, sha256: str) -> bool:
        if entry.seen == "present" and entry.spec.get("ceph"):
            return False  # its content has been copied
        layers = entry.spec.get("layers", ()) if entry.seen != "gone" else ()
        return any(layer["image"] and layer["image"]["sha256"] == sha256 for layer in layers)

    def describe(self, entry: Entry) -> str:
        return str(entry.spec.get("volume", {}).get("name", ""))

    def strays(self) -> list[str]:
        """Layers with a file that no volume of the ledger knows: the ledger was lost. They are kept."""
        return sorted(set(self.layers.there()) - self._notes.all())

    def _there(self, tree: str) -> list[str]:
        places = self._notes.places(tree)
        exist = {place: self._store(place[0]).exists(place[1]) for place in set(places.values())}
        return [layer_id for layer_id, place in places.items() if exist[place]]

    def _facts(self, spec: dict[str, Any], store: Layers | Images, to_come: Collection[str]) -> dict[str, Any]:
        active = spec["active"]
        size = store.size(_written(spec))
        there = [layer_id for layer_id in self._there(spec["tree"]) if layer_id not in to_come]
        if isinstance(store, Images):
            return {"layers": there, "size_gib": size >> 30, "format": qemu_img.RAW}
        used = sum(self.layers.path(layer_id).stat().st_blocks * 512 for layer_id in there)
        return {"layers": there, "size_gib": size >> 30, "format": self.layers.format_of(active), "used_bytes": used}


def _written(spec: dict[str, Any]) -> str:
    """What is written: a layer, or in Ceph an image."""
    return str(spec.get("images", {}).get(spec["active"], spec["active"]))


def _by_image(gone: dict[str, Note]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for layer_id, note in gone.items():
        found.setdefault(note["rbd"], []).append(layer_id)
    return found


def _needed(gone: dict[str, Note], images: dict[str, str]) -> dict[str, set[str]]:
    """See `rbd_trees.clear_away`."""
    needed: dict[str, set[str]] = {note["rbd"]: set() for note in gone.values() if note["stays"]}
    for layer_id, image in images.items():
        needed.setdefault(image, set()).add(layer_id)
    return needed
