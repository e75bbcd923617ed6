"""Taking volumes in shared folders or in Ceph from a host that is not heard of, for one that is."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from cloud.events.services import Actor, record
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from storage import holders, hosting, moving
from storage.models import Attachment, Volume
from storage.moving import Route
from storage.services import attaching
from storage.services.moving import choose, move, require_reach, told
from storage.services.volumes import WrongState, unfit
from storage.workflows import TakeOverVolume


def move_or_take_over(*, take_over: bool = False, **how: Any) -> Operation:
    """One or the other, as the API and the page ask for it."""
    return take_it_over(**how) if take_over else move(**how)


def take_it_over(*, volume: Volume, actor: Actor, host: Host | None = None) -> Operation:
    """Have a volume in a shared folder or in Ceph on another host, the one with most room if none is said, while its
    own is not heard of; what it is attached to loses it. What shares data with it, as clones do, goes along.

    Raises UnfitVolume, WrongState, NoRoom, Busy.
    """
    operation = engine.start(TakeOverVolume, volume, actor=actor)
    for held in _attachments(volume):  # holders are locked before volumes
        holders.kind_of(held.holder_type).tell(held.holder_id)
    group = moving.group_of([volume])
    require_takable(group, but=operation)
    route = route_to(group, host or choose(group))
    for held in _attachments(volume):
        if held.slot == 0:
            raise WrongState(f"{held.holder_name} boots from {held.volume}. Take over {held.holder_name} instead.")
        attaching.release(held, actor=actor)
    seize(operation, group, route, actor)
    return operation


def _attachments(volume: Volume) -> list[Attachment]:
    """Of all that shares data with it."""
    held = Attachment.objects.filter(volume__active__tree=volume.active.tree).select_related("volume")
    return list(held.order_by("holder_id", "slot"))


def seize(operation: Operation, group: Collection[Volume], route: Route, actor: Actor) -> None:
    """Say that they are on the target from now on. Raises NoRoom."""
    moving.seize(list(group), route)
    operation.parameters = {**operation.parameters, "from": str(route.source), **told(route, group)}
    operation.save(update_fields=["parameters"])
    for one in group:
        before = {"from": str(route.source)}
        record("storage.volume.take_over", one, actor=actor, before=before, after=told(route, group))


def require_takable(group: Collection[Volume], *, but: Operation, holders: Collection[UUID] = ()) -> None:
    """Raises WrongState or Busy unless all of these may be taken from their host. `but`: what takes them; `holders`:
    what is taken over with them, if anything is: then nothing else may have one."""
    for one in group:
        if one.type.is_served:
            raise WrongState(f"{one} is on the disk of its storage host and nowhere else. It is back when that is.")
        if not one.active.pool:
            raise WrongState(f"{one} is on the disk of its host and nowhere else. It is back when its host is.")
        held = one.attachments.exclude(holder_id__in=holders).first()
        if holders and held is not None:
            raise WrongState(f"{held.holder_name} has {one}, which shares data with these. Take over {one} first.")
        live = Operation.objects.filter(subject_type=hosting.VOLUME, subject_id=one.pk, finished_at=None)
        if (busy := live.exclude(pk=but.pk).first()) is not None:
            raise engine.Busy.with_operation(busy, str(one))


def require_served(volumes: Collection[Volume]) -> None:
    """Raises WrongState unless the storage hosts of all of these are heard of, which keep the host before from writing.

    They do so by the key of the attachment: see `storage.services.attaching.change_keys`.
    """
    for one in volumes:
        if one.active.host is not None and moving.is_silent(one.active.host):
            raise WrongState(f"{one} is on its storage host, which is not heard of. It is back when that is.")


def route_to(group: Collection[Volume], target: Host) -> Route:
    """Raises UnfitVolume, WrongState, Busy."""
    source = next(iter(group)).active.host
    if source is None:
        raise WrongState(f"{next(iter(group))} is on no host yet. It gets one when it is first attached.")
    require_silent(source)
    require_reach(group, source, target)
    require_fences(group, source, target)
    return Route(source, target)


def require_fences(group: Collection[Volume], source: Host, target: Host) -> None:
    """Raises UnfitVolume or WrongState unless both agents know how these change hosts while one is silent."""
    in_ceph = any(one.type.in_ceph for one in group)
    if moving.fence_of(target) is None or (in_ceph and not moving.fences_in_ceph(target)):
        raise unfit("/host", f"The agent of {target} is too old to take volumes over: update it first.")
    if in_ceph and source.lost_at is None and not moving.fences_in_ceph(source):
        raise too_old(source)


def require_silent(source: Host) -> None:
    """Raises WrongState unless a host is lost, or nothing is heard of it and it can be kept from writing afterwards."""
    if source.lost_at is not None:
        return
    if not moving.is_silent(source):
        raise WrongState(f"{source} is heard of: stop what runs there, and move it instead of taking it over.")
    if moving.fence_of(source) is None:
        raise too_old(source)


def too_old(source: Host) -> WrongState:
    words = f"The agent of {source} is too old to be kept from writing when it is back."
    return WrongState(f"{words} It has to be updated, or its instances and volumes have to wait for it.")


def planned(kind: str, subject_type: str, subject_id: UUID) -> dict[str, object] | None:
    """Of a taking over that has been begun: from where to where, and the volumes."""
    live = Operation.objects.filter(subject_type=subject_type, subject_id=subject_id, finished_at=None, kind=kind)
    found = live.values_list("parameters", flat=True).first()
    return {name: found.get(name) for name in ("from", "to", "volumes", "bytes")} if found else None
