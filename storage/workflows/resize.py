"""Growth."""

from cloud.operations.workflow import Verdict
from storage import hosting, prices
from storage.models import Volume
from storage.workflows.base import WithHolder


class ResizeVolume(WithHolder):
    """To a larger size. A host that has begun to grow it goes on: nothing that may have grown is cut off again."""

    kind = "storage.resize_volume"
    first = "grow"

    def grow(self) -> Verdict:
        wait = self.until_true()
        if wait:
            self.progress(0, 1, "host")  # from now on it is not taken back
        return wait or self.tell_holder

    def may_cancel(self) -> bool:
        return self.operation.progress_of is None

    def take_back(self) -> Verdict:
        volume, before = self.volume, self.operation.before
        if self.operation.progress_of is None and volume.size_gib != before["size_gib"]:
            prices.settle(volume)
            Volume.objects.filter(pk=volume.pk).update(size_gib=before["size_gib"])
            volume.active.size_gib = before["size_gib"]
            volume.active.save(update_fields=["size_gib"])
            volume.size_gib = before["size_gib"]
            hosting.fit_room(volume)
            hosting.changed(volume)
        return self.restore
