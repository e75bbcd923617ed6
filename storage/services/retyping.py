"""Another type for a volume."""

from cloud.events.services import Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from storage import prices
from storage.models import Volume, VolumeType
from storage.services.volumes import require_beside, with_one_holder
from storage.workflows import RetypeVolume


def retype(*, volume: Volume, actor: Actor, type: VolumeType) -> Operation:  # noqa: A002 - as the API calls it
    """Give a volume the limits and the price of another type, also while a guest uses it. Its data stays as it is.

    A volume that is of this type already gets the type's present price. Raises WrongState, UnfitVolume, Busy.
    """
    operation = engine.start(RetypeVolume, volume, actor=actor)
    volume = with_one_holder(volume)
    require_beside(volume, type)
    operation.before = {"type": str(volume.type_id), "price_per_gib_hour": str(volume.price_per_gib_hour)}
    operation.save(update_fields=["before"])
    before, after = ({"type": one.name, "price_per_gib_hour": price} for one, price in (
        (volume.type, volume.price_per_gib_hour), (type, type.price_per_gib_hour)))  # fmt: skip
    prices.settle(volume)
    volume.type, volume.price_per_gib_hour = type, type.price_per_gib_hour
    volume.save(update_fields=["type", "price_per_gib_hour"])
    record("storage.volume.retype", volume, actor=actor, before=before, after=after)
    return operation
