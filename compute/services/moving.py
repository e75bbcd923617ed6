"""Moves of instances that stand still to another host, by copying."""

from dataclasses import replace
from typing import Any

from cloud.events.services import Actor
from cloud.hosts.models import Host
from cloud.hosts.orders import first_generation
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Fault
from compute import moves, volumes, why_not
from compute.models import Instance, Machine
from compute.placement.choose import choose
from compute.placement.explain import explain
from compute.placement.rules import Wish
from compute.services.problems import NoCapacity, WrongState, require
from compute.services.wishes import record_verb
from compute.volumes import Needs, pools_of
from compute.workflows import MoveInstance
from storage import moving as transfers
from storage.models import Image, Volume
from storage.moving import Route
from storage.services import moving


def move(*, instance: Instance, actor: Actor, host: Host | None = None) -> Operation:
    """Copy a stopped instance with its disk and its volumes to another host, and have it there; to the best one if none
    is said. What shares data with its volumes moves along.

    Raises WrongState, NoCapacity, UnfitVolume, NoRoom, Busy.
    """
    operation = engine.start(MoveInstance, instance, actor=actor)
    locked = Instance.objects.select_for_update(of=("self",)).select_related("machine__host", "image", "project")
    instance = locked.get(pk=instance.pk)
    require(instance, why_not.move(instance))
    require_not_read(instance)
    group = transfers.group_of(volumes.that_move(instance))
    moving.require_movable(group, holders={instance.pk})
    route = route_for(instance, group, host)
    transfer = transfers.begin(operation, route, group, files=moves.files_of(instance))
    moving.start_along(group, str(transfer.pk), actor)
    record_verb("move", instance, actor, **{"from": str(route.source)}, **moving.told(route, group))
    return operation


def require_not_read(instance: Instance) -> None:
    """Raises WrongState while an image is made of its disk."""
    if image := Image.objects.filter(status=Image.Status.IMPORTING, source__id=str(instance.pk)).first():
        raise WrongState(f"The image {image} is being made of {instance}. Wait for it, or delete it.")


def route_for(instance: Instance, group: list[Volume], host: Host | None) -> Route:
    """Choose a host, and make the second machine there, with its room. Raises WrongState, NoCapacity, Busy."""
    source = instance.host
    assert source is not None
    if host is not None and host.pk == source.pk:
        raise WrongState(f"{instance} is on {host} already.")
    if not transfers.can_move(source):
        raise WrongState(f"The agent of {source} is too old to send instances: update it first.")
    if instance.machines.count() > 1 or (host and transfers.clears_up(group, host)):
        raise engine.Busy(f"A host still removes what it had of {instance} before. Try again in a moment.")
    wish = _wish(instance, group, source, host)
    decision = choose(instance, wish=wish)
    if decision.host_id is None:
        summary = explain(wish).summary
        faults = [Fault("/host", summary)] if host else []
        raise NoCapacity(f"{instance} cannot move: {summary}", errors=faults)
    target = Host.objects.get(pk=decision.host_id)
    if transfers.clears_up(group, target):
        raise engine.Busy(f"{target} still removes what it had of {instance} before. Try again in a moment.")
    generation = first_generation(target.pk, moves.INSTANCE, instance.pk)
    Machine.objects.create(instance=instance, host=target, hypervisor=decision.hypervisor, generation=generation)
    return Route(source, target)


def _wish(instance: Instance, group: list[Volume], source: Host, host: Host | None) -> Wish:
    """Another host than the present one, under the same hypervisor, with room for all of its volumes."""
    gib, pools = sum(volume.disk_gib for volume in group), pools_of(group)
    wish = Wish.of(instance)
    are_served = wish.volumes.are_served
    needs = Needs(gib=gib, are_new=bool(group), have_base=bool(group), pools=pools, are_served=are_served)
    runs = (f"{instance.hypervisor}/{instance.image.architecture}",)
    chosen = host.pk if host else None
    return replace(wish, runs=runs, host_id=chosen, leaves=source.pk, volumes=needs)


def planned(instance: Instance) -> dict[str, Any] | None:
    """Of a move that has been begun: from where to where, its volumes, and about how many bytes these have."""
    return moving.planned(moves.INSTANCE, instance.pk)
