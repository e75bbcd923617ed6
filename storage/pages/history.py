"""The snapshots of a volume as a tree: which was taken after which, and on which one it stands now."""

from dataclasses import dataclass
from uuid import UUID

from storage.models import Snapshot, Volume
from storage.trees import Tree, tree_of


@dataclass(frozen=True)
class Line:
    """One snapshot. `depth`: how many others it lies on; `is_current`: the volume goes on from it."""

    snapshot: Snapshot
    depth: int
    is_current: bool

    @property
    def indents(self) -> range:
        return range(self.depth)


def history_of(volume: Volume) -> list[Line]:
    """A volume's snapshots, each after the one that it was taken after."""
    snapshots = list(volume.snapshots.order_by("created_at", "pk"))
    if not snapshots:
        return []
    tree = tree_of(volume)
    by_layer = {one.layer_id: one for one in snapshots}
    after = {one.pk: _nearest(tree, by_layer, one.layer_id, own=False) for one in snapshots}
    current = _nearest(tree, by_layer, volume.active_id, own=True)
    lines: list[Line] = []
    ahead = [(one, 0) for one in reversed(snapshots) if after[one.pk] is None]
    while ahead:
        one, depth = ahead.pop()
        lines.append(Line(one, depth, one == current))
        ahead += [(other, depth + 1) for other in reversed(snapshots) if after[other.pk] == one]
    return lines


def _nearest(tree: Tree, by_layer: dict[UUID, Snapshot], layer: UUID, *, own: bool) -> Snapshot | None:
    """The snapshot that a layer lies on; with `own` it may be of that layer itself."""
    chain = tree.chain(layer)
    below = chain if own else chain[:-1]
    return next((by_layer[one.pk] for one in reversed(below) if one.pk in by_layer), None)
