"""Another type: other limits, another price."""

from decimal import Decimal

from cloud.operations.workflow import DONE, Verdict
from storage import holders, prices
from storage.models import Volume
from storage.workflows.base import WithHolder


class RetypeVolume(WithHolder):
    """The emulator that has the volume open is told its new limits. Nothing happens to files."""

    kind = "storage.retype_volume"
    first = "tell_holder"

    def take_back(self) -> Verdict:
        volume, before = self.volume, self.operation.before
        prices.settle(volume)
        price = Decimal(before["price_per_gib_hour"])
        Volume.objects.filter(pk=volume.pk).update(type=before["type"], price_per_gib_hour=price)
        return self.restore

    def restore(self) -> Verdict:
        """Its emulator goes back to the limits that it had."""
        if held := self.attachment:
            holders.kind_of(held.holder_type).tell(held.holder_id)
        return DONE
