"""From a snapshot or another volume to a volume of its own."""

from uuid import UUID

from django.db.models.functions import Now

from cloud.hosts.hosted import GONE, raise_generation
from cloud.operations.workflow import DONE, Verdict, Wait
from storage import hosting
from storage.models import Layer, Volume
from storage.workflows.base import VolumeWorkflow, until_sealed


class CreateVolume(VolumeWorkflow):
    """Its first layer lies on another one: that has to be left alone by whoever writes it, then its host makes it.

    What begins empty or from an image is written nowhere before it is attached: for that no operation is needed.
    """

    kind = "storage.create_volume"
    first = "wait_for_source"

    def wait_for_source(self) -> Verdict:
        """Until the layer below is not written any more."""
        below, source = self.volume.active.parent, self.volume.source
        assert below is not None
        assert source is not None
        return until_sealed(below, UUID(source["id"]), source["name"]) or self.make

    def make(self) -> Verdict:
        return self.until_true() or DONE

    def give_up(self) -> Verdict:
        return self.abandon

    def abandon(self) -> Verdict:
        """What is under way for it dies with its generation."""
        if row := hosting.row_of(self.volume):
            raise_generation(row)
        return self.clear_up

    def clear_up(self) -> Verdict:
        row = hosting.row_of(self.volume)
        if row is None or row.has_been_seen(GONE):
            return self.release
        hosting.order(row, "ensure_gone")
        return Wait(hosting.LOOK_AGAIN_SECONDS, because="waiting for the host to remove its files")

    def release(self) -> Verdict:
        """Keep the row with the reason, and nothing else."""
        if row := hosting.row_of(self.volume):
            assert row.host is not None
            hosting.give_back(self.volume.pk, row.host)
            row.delete()
        Layer.objects.filter(pk=self.volume.active_id).update(made=False, sealed_at=Now())
        Volume.objects.filter(pk=self.volume.pk).update(failed_reason=self.operation.reason)
        return DONE
