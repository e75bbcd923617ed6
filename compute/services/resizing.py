"""Another flavor for an instance that is there."""

from django.db import IntegrityError
from django.db.models.functions import Now

from cloud.events.services import Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Fault
from cloud.tenancy import quota
from compute import sizes, why_not
from compute.models import Flavor, Instance, Power
from compute.services.moving import require_not_read
from compute.services.problems import NoCapacity, UnfitFlavor, require
from compute.services.wishes import wish
from compute.sizes import Size
from compute.workflows import ResizeInstance


def resize(*, instance: Instance, actor: Actor, flavor: Flavor | None = None, restart: bool = False) -> Operation:
    """Give it the size, the price and the network limit of a flavor: another one, or its own as that is offered now.

    It has to be stopped; `restart` stops one that runs, and starts it again. Its own disk only grows, never shrinks.
    Raises UnfitFlavor, WrongState, OverQuota, NoCapacity, Busy.
    """
    if flavor is None:
        raise UnfitFlavor("Give a flavor.", errors=[Fault("/flavor", "Give a flavor.")])
    quota.lock(instance.project_id)
    operation = engine.start(ResizeInstance, instance, actor=actor, parameters={"restart": restart})
    # As it is now: nothing else is under way, which could change its size or take a change back.
    rows = Instance.objects.select_related("flavor", "image", "project", "machine__host")
    instance = rows.get(pk=instance.pk)
    before, after = Size.of(instance), Size.by(flavor, instance)
    more = {kind: getattr(after, kind) - getattr(before, kind) for kind in sizes.ROOM}
    quota.require(instance.project_id, **more)
    require(instance, why_not.resize(instance) or ("" if restart else why_not.resize_at_once(instance)))
    require_not_read(instance)
    if unfit := list(sizes.faults(instance, flavor)):
        words = f"{' '.join(unfit)} {sizes.fitting(instance)}"
        raise UnfitFlavor(words, errors=[Fault("/flavor", fault) for fault in unfit])
    wish(operation, instance, Power.STOPPED)
    operation.before |= {"size": before.as_json()}
    operation.save(update_fields=["before"])
    sizes.become(instance, after)
    _take_room(instance, before, after)
    record("compute.instance.resize", instance, actor=actor, before=before.told(), after=after.told())
    return operation


def _take_room(instance: Instance, before: Size, after: Size) -> None:
    """Raises NoCapacity."""
    try:
        sizes.occupy(instance, before, after, created_at=Now())  # since when it costs what it costs now
    except IntegrityError:
        words = f"The host of {instance} has no room for {after.flavor}."
        advice = "An admin of the cloud can move it to another one (`move`) while it is stopped; then resize it."
        raise NoCapacity(f"{words} {advice}", errors=[Fault("/flavor", words)]) from None
