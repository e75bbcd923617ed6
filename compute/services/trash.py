"""The trash for instances: stopped, without their place in memory and in networks, they keep their disks for a day."""

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from cloud import trash
from cloud.costs import kinds
from cloud.events.services import Actor
from cloud.hosts.models import Allocation
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy import quota
from compute import networking, unplugging, why_not
from compute.models import Instance, Power
from compute.services.changing import delete
from compute.services.problems import NoCapacity, require
from compute.services.wishes import record_verb, wish
from compute.why_not import ALIVE
from compute.workflows import DeleteInstance, DiscardInstance, LaunchClone, LaunchInstance, RestoreInstance

LAUNCHES = (LaunchInstance.kind, LaunchClone.kind)


def discard(*, instance: Instance, actor: Actor, purge: bool = False) -> Operation:
    """Stop it and put it into the trash, whatever is under way; with `purge`, or without a trash, delete it for good.

    So is what has nothing to keep: a launch that failed, or has not come to an end. Doing it twice is no error.
    Raises WrongState while it is protected.
    """
    live = engine.lock("instance", instance.pk)
    if live and live.kind in (DeleteInstance.kind, *(() if purge else (DiscardInstance.kind,))):
        return live
    instance = Instance.objects.select_related("machine__host", "project").get(pk=instance.pk)
    require(instance, why_not.delete(instance))
    if purge or not trash.is_used() or not _has_begun(instance, live):
        return delete(instance=instance, actor=actor)
    how = {"force": Power.SUSPENDED in (instance.wanted_power, instance.seen)}  # there is nothing to be asked then
    operation = engine.start(DiscardInstance, instance, actor=actor, parameters=how)
    kinds.end("instance", instance.pk, instance.project_id)
    wish(operation, instance, Power.STOPPED, trashed_at=Now())
    record_verb("delete", instance, actor, trash=True)
    return operation


def _has_begun(instance: Instance, live: Operation | None) -> bool:
    """Whether it has a disk with something on it."""
    is_launching = live is not None and live.kind in LAUNCHES
    there = instance.machine is not None and instance.seen not in (Power.UNKNOWN, Power.GONE)
    return there and not is_launching and not instance.failed_at and not instance.clone_of_snapshot


def restore(*, instance: Instance, actor: Actor, name: str = "") -> Operation:
    """Take it out of the trash, with the volumes that went along; as `name` if another one is called so by now.

    It runs again if it ran. It gets its old addresses where they are free, and others where they are not; what it was
    plugged into and is not there any more is left out: the operation's parameters name that in `notes`.
    Raises WrongState, OverQuota, NoCapacity.
    """
    needs = {"vcpus": instance.vcpus, "memory_mib": instance.memory_mib}
    quota.require(instance.project_id, instances=1, **needs)
    engine.lock("instance", instance.pk)
    instance = _in_trash(instance)
    notes = unplugging.plug_back(instance, actor)
    power = Power.RUNNING if _power_before(instance) in ALIVE else Power.STOPPED
    operation = engine.start(RestoreInstance, instance, actor=actor, parameters={"notes": notes})
    instance.name = name or instance.name
    wish(operation, instance, power, before=Power.STOPPED, trashed_at=None, name=instance.name)
    try:
        with transaction.atomic():
            room = Allocation.of("instance", instance.pk).filter(host=instance.host)
            room.update(created_at=Now(), **needs)
    except IntegrityError:
        words = f"The host where the disk of {instance} is has no room for it now."
        raise NoCapacity(f"{words} Try again later, or ask an admin of the cloud.") from None
    networking.rename(instance)
    record_verb("restore", instance, actor, name=instance.name, notes=notes)
    return operation


def purge(*, instance: Instance, actor: Actor) -> Operation:
    """Delete for good what is in the trash. Raises WrongState."""
    live = engine.lock("instance", instance.pk)
    if live and live.kind == DeleteInstance.kind:
        return live
    return delete(instance=_in_trash(instance), actor=actor, verb="purge")


def _in_trash(instance: Instance) -> Instance:
    rows = Instance.objects.select_for_update(of=("self",)).select_related("machine__host", "project", "flavor")
    instance = rows.get(pk=instance.pk)
    trash.require_in_trash(instance)
    return instance


def _power_before(instance: Instance) -> str:
    """What was wanted of it when it was deleted."""
    discards = Operation.objects.filter(subject_type="instance", subject_id=instance.pk, kind=DiscardInstance.kind)
    latest = discards.order_by("-started_at").first()
    return str(latest.before["wanted_power"]) if latest else Power.STOPPED


trash.register(
    trash.Kind(
        type="instance",
        rows=lambda: Instance.objects.select_related("project"),
        restore=lambda row, actor, name: restore(instance=row, actor=actor, name=name),
        purge=lambda row, actor: purge(instance=row, actor=actor),
        about=lambda row: f"{row.vcpus} vCPU, {row.memory_mib} MiB, {row.disk_gib} GiB of disk",
        deleting=DeleteInstance.kind,
    )
)
