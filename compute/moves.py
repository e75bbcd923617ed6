"""The two machines of an instance that moves, and what becomes of the one that does not count."""

from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet

from cloud.hosts import orders
from cloud.hosts.hosted import raise_generation
from cloud.hosts.models import Allocation
from cloud.hosts.room import offer_room
from cloud.hosts.silence import reachable_since
from cloud.operations.models import Operation
from cloud.queries import Prepared
from compute import networking
from compute.models import Instance, Machine, Power
from storage import moving
from storage.models import Transfer

MOVING = "compute.move"
INSTANCE = "instance"  # as hosts call it
FILES = ("disk", "host-key", "uefi-variables")  # what there may be of a machine besides its volumes
AT_ONCE = 100


def files_of(instance: Instance) -> list[dict[str, Any]]:
    return [{"of": INSTANCE, "id": str(instance.pk), "name": name} for name in FILES]


def arrival(machine: Machine) -> str | None:
    """The transfer that has brought the files of a machine to its host, if it comes from another one."""
    if machine.pk == machine.instance.machine_id:
        return None
    under_way = Transfer.objects.filter(
        subject_type=INSTANCE, subject_id=machine.instance_id, target=machine.host_id, outcome=""
    )
    return next((str(transfer.pk) for transfer in under_way), None)


def take_over(instance: Instance, machine: Machine) -> None:
    """From now on this machine counts; the one before is to be removed. All are locked."""
    left, instance.machine, instance.host_wish = instance.machine, machine, None
    instance.save(update_fields=["machine", "host_wish"])
    assert left is not None
    rooms = Allocation.of(INSTANCE, instance.pk)
    if before := rooms.filter(host=left.host).first():
        rooms.filter(host=machine.host).update(created_at=before.created_at)  # since when it costs something
    networking.follow(instance)
    remove(left)


def abandon(instance: Instance) -> None:
    """It moves no more: it stays where it counts. Nothing happens to one that does not move."""
    if transfer := moving.led_by(INSTANCE, instance.pk):
        moving.give_up(transfer)
    for machine in _locked_machines.rows(instance.pk):
        if machine.pk != instance.machine_id:
            remove(machine)


@Prepared
def machines_of(instance_id: Any) -> "QuerySet[Machine]":
    """All that an instance has, with their hosts."""
    return Machine.objects.filter(instance=instance_id).select_related("host")


@Prepared
def _locked_machines(instance_id: Any) -> "QuerySet[Machine]":
    return Machine.objects.select_for_update(of=("self",)).filter(instance=instance_id).select_related("host")


def remove(machine: Machine) -> None:
    """One that does not count goes with its files."""
    raise_generation(machine)
    orders.post(machine.host, INSTANCE, machine.instance_id, f"ensure_{Power.GONE}", machine.generation)


def forget(machine: Machine) -> None:
    """Its host has removed it."""
    Allocation.of(INSTANCE, machine.instance_id).filter(host=machine.host).delete()
    machine.delete()
    offer_room()


def reconcile() -> None:
    """A machine that does not count, while nothing is under way with its instance, is removed. An order of another
    generation than the row's comes to nothing, so it counts as none."""
    live = Operation.objects.filter(subject_type=INSTANCE, subject_id=OuterRef("instance_id"), finished_at=None)
    ordered = orders.live_for(INSTANCE, OuterRef("instance_id"), OuterRef("host")).filter(
        generation=OuterRef("generation")
    )
    second = Machine.objects.exclude(instance__machine=F("pk"))
    stale = second.filter(host__pulse__seen_at__gte=reachable_since()).exclude(Exists(live) | Exists(ordered))
    for key in stale.values_list("pk", flat=True)[:AT_ONCE]:
        with transaction.atomic():
            row = Machine.objects.select_for_update(of=("self",)).select_related("host").filter(pk=key).first()
            if row is None:
                continue
            if row.has_been_seen(Power.GONE):
                forget(row)
            else:
                remove(row)
