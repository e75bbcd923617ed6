"""Running instances elsewhere whose host is not heard of: those whose disks are all in shared folders, in Ceph or
served by storage hosts."""

from typing import Any

from cloud.events.services import Actor
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import moves, volumes, why_not
from compute.models import Instance, Power
from compute.services.moving import move, route_for
from compute.services.problems import require
from compute.services.wishes import record_verb, wish
from compute.workflows import TakeOverInstance
from storage import moving as transfers
from storage.services import attaching, moving, taking


def move_or_take_over(*, take_over: bool = False, **how: Any) -> Operation:
    """One or the other, as the API and the page ask for it."""
    return take_it_over(**how) if take_over else move(**how)


def take_it_over(*, instance: Instance, actor: Actor, host: Host | None = None) -> Operation:
    """Have an instance on another host than its own, which is not heard of; on the best one if none is said. It runs
    there if it should.

    Raises WrongState, NoCapacity, UnfitVolume, NoRoom, Busy.
    """
    operation = engine.start(TakeOverInstance, instance, actor=actor)
    locked = Instance.objects.select_for_update(of=("self",)).select_related("machine__host", "image", "project")
    instance = locked.get(pk=instance.pk)
    require(instance, why_not.take_over(instance))
    assert instance.host is not None
    taking.require_silent(instance.host)
    group = transfers.group_of(volumes.that_move(instance))
    taking.require_takable(group, but=operation, holders={instance.pk})
    taking.require_served(volumes.that_are_served(instance))
    should_run = instance.wanted_power in (Power.RUNNING, Power.PAUSED)
    wish(operation, instance, Power.RUNNING if should_run else Power.STOPPED, before=Power.STOPPED)
    route = route_for(instance, group, host)
    taking.require_fences(group, route.source, route.target)
    taking.seize(operation, group, route, actor)
    attaching.change_keys(volumes.HOLDER, instance.pk)
    machine = instance.machines.select_for_update(of=("self",)).select_related("host").get(host=route.target)
    moves.take_over(instance, machine)
    record_verb("take_over", instance, actor, **{"from": str(route.source)}, **moving.told(route, group))
    return operation
