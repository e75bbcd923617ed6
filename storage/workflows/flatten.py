"""Several layers of a volume become one: what is on it stays the same, and is found faster."""

from datetime import timedelta
from uuid import UUID

from cloud.operations.models import FixBy
from cloud.operations.workflow import Refused
from storage.holders import replaces_layers
from storage.models import Attachment, Layer
from storage.trees import tree_of
from storage.workflows.layering import Replacing

PATIENCE = timedelta(hours=24)


class FlattenVolume(Replacing):
    """Its host makes one layer of several; then what lies on these lies on that one, and they go.

    `parameters`: {"layers": [their ids, the lowest first]}.
    """

    kind = "storage.flatten_volume"
    patience = PATIENCE

    def may_replace(self, held: Attachment) -> bool:
        """The new layer has what the others have."""
        return replaces_layers(held) or super().may_replace(held)

    def put_next_in_place(self) -> None:
        volume = self.volume
        if volume.next_id is None:
            return
        layers = [UUID(one) for one in self.operation.parameters["layers"]]
        # Whoever begins to use one of a tree's layers locks it, and is seen here, or reads what is written here.
        list(Layer.objects.select_for_update(of=("self",), no_key=True).filter(tree=volume.active.tree).order_by("pk"))
        tree = tree_of(volume)
        if not tree.layers[volume.next_id].made or tree.is_read or not tree.mergeable(volume).issuperset(layers):
            raise self._too_late("What it stands on is used otherwise meanwhile.")
        Layer.objects.filter(parent=layers[-1]).update(parent=volume.next_id)
        volume.next = None
        volume.save(update_fields=["next"])

    def _too_late(self, words: str) -> Refused:
        return Refused(f"{words} It is tried again after a day.", fix_by=FixBy.NOBODY)
