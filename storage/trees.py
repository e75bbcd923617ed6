"""Trees of layers: what a volume stands on, and what nobody needs any more."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from cloud.operations.models import Operation
from storage.models import Backup, Image, Layer, Snapshot, Volume, VolumeType

MAX_DEPTH = 64  # layers that one volume may stand on: each costs every read a little


def first(*, size_gib: int, type: VolumeType, base: dict[str, Any] | None = None) -> Layer:  # noqa: A002
    """The first layer of a new tree: empty, or over the file of an image."""
    ident = uuid4()
    return Layer.objects.create(id=ident, size_gib=size_gib, base=base, **_begin(ident, type))


def filled(backup: Backup, *, size_gib: int, type: VolumeType) -> Layer:  # noqa: A002
    """A layer to write that begins with a backup, in a tree of its own."""
    ident = uuid4()
    return _filled(ident, backup, size_gib, **_begin(ident, type))


def filled_beside(layer: Layer, backup: Backup, *, size_gib: int) -> Layer:
    """The same in the tree of another one, on the same host."""
    ident = uuid4()
    return _filled(ident, backup, size_gib, tree=layer.tree, **_place(layer, rbd=ident))


def _filled(ident: UUID, backup: Backup, size_gib: int, **where: Any) -> Layer:
    """Outside of Ceph what is filled is never written: a layer over it is."""
    if where["rbd"]:
        return Layer.objects.create(id=ident, size_gib=size_gib, backup=backup, **where)
    content = Layer.objects.create(id=ident, size_gib=backup.size_gib, backup=backup, sealed_at=Now(), **where)
    return over(content, size_gib=size_gib)


def over(parent: Layer, *, size_gib: int, goes_on: bool = False) -> Layer:
    """A new, empty layer over another one, on the same host. That is locked: its tree does not move meanwhile.
    `goes_on`: in Ceph it is the same image, and not a clone of what is kept of it.
    """
    parent = Layer.objects.select_for_update(of=("self",), no_key=True).select_related("host").get(pk=parent.pk)
    ident = uuid4()
    where = _place(parent, rbd=parent.rbd if goes_on else ident)
    return Layer.objects.create(id=ident, tree=parent.tree, parent=parent, size_gib=size_gib, **where)


def _begin(ident: UUID, type: VolumeType) -> dict[str, Any]:  # noqa: A002
    """Where the first layer of a tree is."""
    return {"tree": ident, "pool": type.shared_pool, "rbd": ident if type.in_ceph else None}


def _place(layer: Layer, *, rbd: UUID | None = None) -> dict[str, Any]:
    """Where all layers of its tree are. `rbd`: the image of the new one, if they are in Ceph."""
    where = {name: getattr(layer, name) for name in ("host_id", "pool", "term", "taken_from")}
    return {**where, "rbd": rbd if layer.rbd else None}


def merged(run: Sequence[Layer]) -> Layer:
    """A layer that is to have what several layers have that follow each other, and never to be written."""
    lowest, highest = run[0], run[-1]
    return Layer.objects.create(
        tree=lowest.tree, parent_id=lowest.parent_id, base=lowest.base, size_gib=highest.size_gib,
        merges=[layer.pk for layer in run], sealed_at=Now(), **_place(highest),
    )  # fmt: skip


class Tree:
    """The layers of one tree, read once."""

    def __init__(self, tree: UUID) -> None:
        self.id = tree
        self.layers = {layer.pk: layer for layer in Layer.objects.filter(tree=tree)}

    def chain(self, top: UUID) -> list[Layer]:
        """A layer and all that it stands on, the first one first."""
        found, at = [], self.layers.get(top)
        while at is not None:
            found.append(at)
            at = self.layers[at.parent_id] if at.parent_id else None
        return found[::-1]

    def of(self, volume: Volume) -> list[Layer]:
        """What a volume stands on, or is about to."""
        chain = self.chain(volume.active_id) + (self.chain(volume.next_id) if volume.next_id else [])
        return list(dict.fromkeys(chain))

    @cached_property
    def needed(self) -> set[UUID]:
        """The ids of all that volumes and snapshots stand on."""
        return self._below(Volume.objects.all(), Snapshot.objects.all())

    def kept_for_others(self, volume: Volume, *, its_snapshots: bool) -> set[UUID]:
        """What other volumes and snapshots stand on; with `its_snapshots` also those of this one.

        Those that are being deleted count no more: of two that go together one removes what only they share.
        """
        others = Volume.objects.exclude(pk=volume.pk).exclude(Exists(_going(OuterRef("pk"))))
        staying = Q(volume__in=others) | (Q(volume=volume) if its_snapshots else Q(pk=None))
        return self._below(others, Snapshot.objects.filter(staying))

    def mergeable(self, volume: Volume) -> set[UUID]:
        """The ids of the layers that only this volume stands on, and only through one other layer that lies on them:
        nobody notices when such that follow each other become one.
        """
        tops = self._tops(Volume.objects.all(), Snapshot.objects.all())
        others = self._below(Volume.objects.exclude(pk=volume.pk), Snapshot.objects.none())
        children = Counter(layer.parent_id for layer in self.layers.values())
        own = (layer for layer in self.chain(volume.active_id) if layer.pk not in tops | others)
        return {layer.pk for layer in own if layer.made and layer.sealed_at and children[layer.pk] == 1}

    def left_out(self) -> set[UUID]:
        """Those in Ceph that nothing stands on but the next layer of the same image."""
        tops = self._tops(Volume.objects.all(), Snapshot.objects.all())
        children = Counter(layer.parent_id for layer in self.layers.values())
        below = [(self.layers[one.parent_id], one) for one in self.layers.values() if one.parent_id and one.rbd]
        same = {layer.pk for layer, above in below if layer.made and layer.rbd == above.rbd}
        return {pk for pk in same - tops if children[pk] == 1}

    def run(self, volume: Volume) -> list[Layer]:
        """The longest chain of layers that can become one, the lowest first."""
        able, chain = self.mergeable(volume), self.chain(volume.active_id)
        runs = [list(run) for is_able, run in groupby(chain, lambda layer: layer.pk in able) if is_able]
        return max(runs, key=len, default=[])

    @property
    def is_read(self) -> bool:
        """Whether a host may be reading layers for an image or a backup, which nothing on a volume tells."""
        snapshots = Snapshot.objects.filter(layer__tree=self.id).values_list("pk", flat=True)
        of_snapshot = Q(source__kind="snapshot", source__id__in=[str(pk) for pk in snapshots])
        of_volume = Q(source__kind="volume", source__layer__in=[str(pk) for pk in self.layers])
        images = Image.objects.filter(of_snapshot | of_volume, status=Image.Status.IMPORTING)
        backups = Backup.objects.filter(volume__active__tree=self.id, status=Backup.Status.MAKING)
        return images.exists() or backups.exists()

    def _tops(self, volumes: "QuerySet[Volume]", snapshots: "QuerySet[Snapshot]") -> set[UUID]:
        pairs = volumes.filter(active__tree=self.id).values_list("active", "next")
        tops = {top for pair in pairs for top in pair if top}
        return tops | set(snapshots.filter(layer__tree=self.id).values_list("layer", flat=True))

    def _below(self, volumes: "QuerySet[Volume]", snapshots: "QuerySet[Snapshot]") -> set[UUID]:
        return {layer.pk for top in self._tops(volumes, snapshots) for layer in self.chain(top)}

    def sweep(self, there: Iterable[str] = ()) -> None:
        """Forget the layers that nothing needs, except for those that are `there` on their host still."""
        left = {pk: layer for pk, layer in self.layers.items() if pk not in self.needed}
        kept = set(there)
        while leaves := {pk for pk in set(left) - {layer.parent_id for layer in left.values()} if str(pk) not in kept}:
            Layer.objects.filter(pk__in=leaves).delete()
            left = {pk: layer for pk, layer in left.items() if pk not in leaves}


def shorten(tree_id: UUID) -> None:
    """Leave out of a tree in Ceph what only the next layer of the same image stands on: that has all of it."""
    in_ceph = Layer.objects.filter(tree=tree_id).exclude(rbd=None)
    # Whoever begins to use one of a tree's layers locks it, and is seen here, or reads what is written here.
    if not list(in_ceph.select_for_update(of=("self",), no_key=True).order_by("pk")):
        return
    tree = Tree(tree_id)
    left_out = set() if tree.is_read else tree.left_out()
    for layer in tree.layers.values():
        if layer.pk not in left_out and layer.parent_id in left_out:
            while layer.parent_id in left_out:
                below = tree.layers[layer.parent_id]
                layer.parent_id, layer.base = below.parent_id, below.base
            layer.made = True
            layer.save(update_fields=["parent", "base", "made"])


def _going(volume: OuterRef) -> "QuerySet[Operation]":
    """The delete of a volume, from its first order on: then it cannot be cancelled any more."""
    live = Operation.objects.filter(subject_type="volume", subject_id=volume, finished_at=None)
    return live.filter(kind="storage.delete_volume", progress_of__isnull=False)


def tree_of(volume: Volume) -> Tree:
    return Tree(volume.active.tree)


def depth(layer: Layer) -> int:
    """How many layers one stands on, itself counted."""
    return len(Tree(layer.tree).chain(layer.pk))


def volumes_on(layer: Layer) -> list[Volume]:
    """The volumes that stand on a layer, or are about to."""
    tree = Tree(layer.tree)
    found = Volume.objects.filter(active__tree=layer.tree).order_by("name")
    return [one for one in found if layer in tree.of(one)]


def noted(tree: UUID, there: Iterable[str]) -> None:
    """A host has said which layers of a tree it has: the others that nothing needs have been removed."""
    kept = set(there)
    Layer.objects.filter(tree=tree, pk__in=kept, made=False).update(made=True, backup=None, merges=[])
    Tree(tree).sweep(kept)
