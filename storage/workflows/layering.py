"""Snapshot, clone, revert: a new, empty layer takes over. It takes as long whatever the size.

First the host makes the file of the new layer, while nobody knows of it yet; then the rows switch to it in one
transaction; then the emulator that has the volume open, if one has.
"""

from django.db.models.functions import Now

from cloud.operations.workflow import DONE, Verdict
from storage import hosting
from storage.holders import kind_of
from storage.models import Layer, Snapshot
from storage.trees import tree_of
from storage.workflows.base import Undone, WithHolder


class Layering(Undone):
    """Puts the volume's `next` layer in place of its active one."""

    first = "make_layer"

    def make_layer(self) -> Verdict:
        return self.until_true() or self.switch

    def switch(self) -> Verdict:
        raise NotImplementedError

    def put_next_in_place(self) -> None:
        volume = self.volume
        if volume.next_id:
            volume.active_id, volume.next_id = volume.next_id, None
            volume.save(update_fields=["active", "next"])

    def may_cancel(self) -> bool:
        return self.operation.step in ("make_layer", "switch")

    def take_back(self) -> Verdict:
        """A layer that nobody has written to goes again. One that has taken over stays: it may have been written."""
        volume = self.volume
        Snapshot.objects.filter(pk=self.operation.parameters.get("snapshot"), consistency="").delete()
        if volume.next_id:
            volume.next = None
            volume.save(update_fields=["next"])
            hosting.changed(volume)
        return self.restore


class SnapshotVolume(Layering, WithHolder):
    """What has been written until now is kept; what comes goes to a new layer."""

    kind = "storage.snapshot_volume"

    def switch(self) -> Verdict:
        self.put_next_in_place()
        return self.tell_holder

    def finish(self) -> Verdict:
        """Nobody writes what is below any more."""
        volume = self.volume
        below = [layer.pk for layer in tree_of(volume).chain(volume.active_id)[:-1]]
        Layer.objects.filter(pk__in=below, sealed_at=None).update(sealed_at=Now())
        snapshots = Snapshot.objects.filter(pk=self.operation.parameters.get("snapshot"))
        snapshots.update(consistency=self._consistency())
        return DONE

    def _consistency(self) -> str:
        """What nothing is attached to is at rest."""
        held = self.attachment
        if held is None:
            return Snapshot.Consistency.FILESYSTEM
        return kind_of(held.holder_type).consistency(held.holder_id, self.volume.pk)


class CloneVolume(SnapshotVolume):
    """The same on the side of the volume that is cloned: the clone lies on what is kept (see CreateVolume)."""

    kind = "storage.clone_volume"


class CaptureVolume(SnapshotVolume):
    """The same for an image that is made of what is kept (see ImportImage)."""

    kind = "storage.capture_volume"


class RevertVolume(Layering):
    """Back to a snapshot: what was written since is removed."""

    kind = "storage.revert_volume"

    def switch(self) -> Verdict:
        if self.volume.next_id:
            self.put_next_in_place()
            hosting.changed(self.volume)
        return self.remove_old

    def remove_old(self) -> Verdict:
        return self.until_true() or DONE
