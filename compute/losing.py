"""Instances whose host is lost: those whose disk was only there begin anew, those that boot from a volume that is
elsewhere go on on another host."""

from collections.abc import Iterator
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from cloud.costs import kinds
from cloud.events.services import SYSTEM
from cloud.hosts.models import Host
from cloud.hosts.resources import Stake
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import giving_up, moves, volumes
from compute.models import Instance, Machine, Power
from compute.services.changing import delete
from compute.services.taking import take_it_over
from compute.services.wishes import record_verb, wish
from compute.workflows import DeleteInstance, LoseInstance
from storage import pools
from storage.models import Attachment
from storage.models.types import PoolKind
from storage.services import attaching

HOST_LOST = "Its host was declared lost."
LOST = (
    "It was lost with its host, and its own disk with it. Start it to have it made anew from its image, with its "
    "addresses; or delete it."
)


def lose(machine: Machine, live: Operation | None) -> None:
    """It runs on another host, waits until one has room for it, or is given up."""
    instance = _locked(machine)
    if machine.pk != instance.machine_id:  # it has left, or was to come
        moves.forget(machine)
    elif live is not None and live.kind == DeleteInstance.kind:
        kinds.end("instance", instance.pk, instance.project_id)
        moves.forget(machine)
    elif boots_elsewhere(instance):
        if live is not None:
            engine.fail(live, HOST_LOST)
        take_it_over(instance=instance, actor=SYSTEM)
    else:
        if live is not None:
            engine.fail(live, HOST_LOST)
        _give_up(instance, machine)


def _locked(machine: Machine) -> Instance:
    rows = Instance.objects.select_for_update(of=("self",)).select_related("machine__host", "image", "project")
    return rows.get(pk=machine.instance_id)


def boots_elsewhere(instance: Instance) -> bool:
    """Whether what it boots from is not on its host's own disk."""
    return instance.trashed_at is None and _roots_elsewhere().filter(holder_id=instance.pk).exists()


def _roots_elsewhere() -> "QuerySet[Attachment]":
    return attaching.roots_elsewhere().filter(holder_type=volumes.HOLDER)


def _give_up(instance: Instance, machine: Machine) -> None:
    """Its disk is gone."""
    giving_up.lose(instance, LOST)
    moves.forget(machine)
    if instance.trashed_at:
        delete(instance=instance, actor=SYSTEM, verb="purge")


def lose_root(instance_id: UUID) -> None:
    """What it boots from is lost with a storage host. One that was on the same host is lost with that."""
    instance = Instance.objects.select_related("machine__host").filter(pk=instance_id).first()
    if instance is None or instance.host is None or instance.host.lost_at:
        return
    live = engine.lock("instance", instance_id)
    if instance.trashed_at:
        delete(instance=instance, actor=SYSTEM, verb="purge")
    elif live is None or live.kind not in (DeleteInstance.kind, LoseInstance.kind):
        operation = engine.start(LoseInstance, instance, actor=SYSTEM)
        wish(operation, instance, Power.STOPPED)
        record_verb("lose", instance, SYSTEM)


def is_given_up(instance_id: UUID) -> bool:
    """Whether nothing is left, or soon will be, that it could run from: its root or its own host is lost."""
    instance = Instance.objects.select_related("machine__host").filter(pk=instance_id).first()
    if instance is None:
        return False
    live = Operation.objects.filter(subject_type="instance", subject_id=instance_id, finished_at=None)
    if live.filter(kind__in=(DeleteInstance.kind, LoseInstance.kind)).exists():
        return True
    root = volumes.held_by(instance).filter(slot=0).first()
    if root is not None and not instance.trashed_at:
        return pools.is_lost(root.volume.active)
    return _is_lost(instance.host)


def _is_lost(host: Host | None) -> bool:
    return host is not None and host.lost_at is not None


def at_stake(host: Host) -> Iterator[Stake]:
    served = Q(volume__type__pool_kind=PoolKind.NBD, volume__active__host=host)
    boot_from_it = Attachment.objects.filter(served, holder_type=volumes.HOLDER, slot=0).values("holder_id")
    there = (
        Instance.objects.filter(Q(machine__host=host) | Q(pk__in=boot_from_it, machine__isnull=False))
        .select_related("project")
        .defer("user_data", "placement")
    )
    roots = _roots_elsewhere().filter(holder_id=OuterRef("pk")).exclude(served)
    for instance in there.annotate(boots_elsewhere=Exists(roots)).order_by("name", "pk"):
        fate = "taken_over" if instance.boots_elsewhere and instance.trashed_at is None else "lost"
        yield Stake("instance", instance.pk, instance.name, instance.project.name, fate)
