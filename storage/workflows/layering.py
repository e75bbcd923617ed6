"""Snapshot, clone, revert: a new, empty layer takes over. It takes as long whatever the size.

First the host makes the file of the new layer, while nobody knows of it yet; then the rows switch to it in one
transaction; then the emulator that has the volume open, if one has.
"""

from django.db.models.functions import Now

from cloud.operations.models import FixBy
from cloud.operations.workflow import DONE, Refused, Verdict
from storage import hosting
from storage.holders import kind_of
from storage.models import Attachment, Backup, Layer, Snapshot
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


class Switching(Layering, WithHolder):
    """The emulator that has the volume open, if one has, sees to the new layer."""

    def switch(self) -> Verdict:
        self.put_next_in_place()
        if self.volume.type.is_served:
            hosting.changed(self.volume)
        return self.serve_anew

    def serve_anew(self) -> Verdict:
        """Until its storage host, if it has one, serves it with what has taken over. What has it open waits a moment,
        and notices no more."""
        if self.volume.type.is_served:
            return self.until_true() or self.finish
        return self.tell_holder

    def consistency(self) -> str:
        """What nothing is attached to is at rest."""
        held = self.attachment
        if held is None:
            return Snapshot.Consistency.FILESYSTEM
        return kind_of(held.holder_type).consistency(held.holder_id, self.volume.pk)


class SnapshotVolume(Switching):
    """What has been written until now is kept; what comes goes to a new layer."""

    kind = "storage.snapshot_volume"

    def finish(self) -> Verdict:
        """Nobody writes what is below any more."""
        volume = self.volume
        below = [layer.pk for layer in tree_of(volume).chain(volume.active_id)[:-1]]
        Layer.objects.filter(pk__in=below, sealed_at=None).update(sealed_at=Now())
        if volume.active.rbd:
            hosting.changed(volume)
        return self.keep

    def keep(self) -> Verdict:
        """In Ceph its host keeps what is below now, unless the emulator that has it open has done so."""
        return self.until_true() or self.end

    def end(self) -> Verdict:
        snapshots = Snapshot.objects.filter(pk=self.operation.parameters.get("snapshot"))
        snapshots.update(consistency=self.consistency())
        return DONE


class CloneVolume(SnapshotVolume):
    """The same on the side of the volume that is cloned: the clone lies on what is kept (see CreateVolume)."""

    kind = "storage.clone_volume"


class CaptureVolume(SnapshotVolume):
    """The same for what is made of what is kept: an image (see ImportImage), or in Ceph a backup (see MakeBackup), then
    `parameters` is {"backup": its id}."""

    kind = "storage.capture_volume"

    def end(self) -> Verdict:
        backup = Backup.objects.filter(pk=self.operation.parameters.get("backup"), status=Backup.Status.MAKING)
        backup.update(consistency=self.consistency())
        return super().end()


class Replacing(Switching):
    """Something else comes in place of what is on the volume, which nothing has open; what no snapshot keeps goes."""

    def switch(self) -> Verdict:
        """From here on the next start of what it is attached to finds the new layer."""
        held = self.attachment
        if held and not self.may_replace(held):
            raise self._too_late(f"{held.holder_type} {held.holder_name} was started meanwhile.")
        self._keep_old()
        return super().switch()

    def may_replace(self, held: Attachment) -> bool:
        return kind_of(held.holder_type).rests(held.holder_id)

    def _too_late(self, words: str) -> Refused:
        return Refused(f"{words} Stop it, and try again.", fix_by=FixBy.YOU)

    def _keep_old(self) -> None:
        """The snapshot of what is replaced is taken, if one is wished: nobody writes that any more."""
        wished = Snapshot.objects.filter(pk=self.operation.parameters.get("snapshot"), consistency="")
        Layer.objects.filter(snapshots__in=wished, sealed_at=None).update(sealed_at=Now())
        wished.update(consistency=self.consistency())

    def finish(self) -> Verdict:
        """Nobody knows of the old layers any more."""
        hosting.changed(self.volume)
        return self.remove_old

    def remove_old(self) -> Verdict:
        return self.until_true() or self.fit_room

    def take_back(self) -> Verdict:
        """Once it has switched there is no way back: what was there before goes."""
        if self.volume.next_id is None:
            hosting.changed(self.volume)
        return super().take_back()

    def restore(self) -> Verdict:
        verdict = super().restore()
        return self.fit_room if verdict is DONE else verdict

    def fit_room(self) -> Verdict:
        hosting.fit_room(self.volume)
        return DONE


class RevertVolume(Replacing):
    """Back to a snapshot."""

    kind = "storage.revert_volume"


class RestoreBackup(Replacing):
    """Back to a backup: its host fills a new layer with it while the old ones are still there."""

    kind = "storage.restore_backup"
