"""Instances whose host is lost: those whose disk was only there begin anew, those in shared folders go on elsewhere."""

from collections.abc import Iterator

from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from cloud.costs import kinds
from cloud.events.services import SYSTEM, record
from cloud.hosts.models import Host
from cloud.hosts.resources import Stake
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import moves, networking, volumes
from compute.models import Instance, Machine, Power
from compute.services.changing import delete
from compute.services.taking import take_it_over
from compute.workflows import DeleteInstance
from storage.models import Attachment

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
    """What boots from a volume in a shared folder or in Ceph."""
    return Attachment.objects.filter(holder_type=volumes.HOLDER, slot=0, volume__active__pool__isnull=False)


def _give_up(instance: Instance, machine: Machine) -> None:
    """Its disk is gone: keep the row with the reason, its ports with their addresses, and nothing else."""
    record("compute.instance.lose_with_host", instance, actor=SYSTEM, before={"seen_power": instance.seen})
    kinds.end("instance", instance.pk, instance.project_id)
    moves.abandon(instance)
    volumes.lose(instance)
    moves.forget(machine)
    instance.machine = None
    networking.follow(instance)
    Instance.objects.filter(pk=instance.pk).update(
        wanted_power=Power.STOPPED, failed_at=Now(), failed_reason=LOST, gave_up="", restarted_at=[],
        host_wish=None, snapshot=None, clone_of_snapshot=None,
    )  # fmt: skip
    if instance.trashed_at:
        delete(instance=instance, actor=SYSTEM, verb="purge")


def at_stake(host: Host) -> Iterator[Stake]:
    there = Instance.objects.filter(machine__host=host).select_related("project").defer("user_data", "placement")
    roots = _roots_elsewhere().filter(holder_id=OuterRef("pk"))
    for instance in there.annotate(boots_elsewhere=Exists(roots)).order_by("name", "pk"):
        fate = "taken_over" if instance.boots_elsewhere and instance.trashed_at is None else "lost"
        yield Stake("instance", instance.pk, instance.name, instance.project.name, fate)
