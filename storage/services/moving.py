"""Moves of volumes to another host: by copying, unless both have the shared folder where they are."""

from collections.abc import Collection, Iterable
from uuid import UUID

from cloud.events.services import Actor, record
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from storage import hosting, moving
from storage.hosting import NoRoom
from storage.models import Backup, Image, Volume
from storage.moving import Route
from storage.services.volumes import WrongState, unfit
from storage.workflows import MoveAlong, MoveVolume


def move(*, volume: Volume, actor: Actor, host: Host | None = None, holder: UUID | None = None) -> Operation:
    """Copy a volume that no machine has open to another host, the one with most room if none is said, and have it
    there. What shares data with it, as clones do, moves along. `holder`: what it may be attached to all the same.

    Raises UnfitVolume, WrongState, NoRoom, Busy.
    """
    operation = engine.start(MoveVolume, volume, actor=actor)
    group = moving.group_of([volume])
    require_movable(group, holders={holder} if holder else set())
    target = host or choose(group)
    route = route_to(group, target)
    transfer = moving.begin(operation, route, group)
    start_along([one for one in group if one.pk != volume.pk], str(transfer.pk), actor)
    for one in group:
        record("storage.volume.move", one, actor=actor, before={"from": str(route.source)}, after=told(route, group))
    return operation


def told(route: Route, group: Collection[Volume]) -> dict[str, object]:
    """What an event and a dry run say of a move."""
    return {"to": str(route.target), "volumes": [one.name for one in group], "bytes": moving.used_bytes(group)}


def planned(subject_type: str, subject_id: UUID) -> dict[str, object] | None:
    """Of a move that has been begun: from where to where, the volumes, and about how many bytes of files these have."""
    transfer = moving.led_by(subject_type, subject_id)
    if transfer is None:
        return None
    group = moving.carried(transfer)
    return {"from": str(transfer.source), **told(Route(transfer.source, transfer.target), group)}


def start_along(volumes: Iterable[Volume], transfer: str, actor: Actor) -> None:
    """Keep everything else from volumes that move with something."""
    for volume in volumes:
        engine.start(MoveAlong, volume, actor=actor, parameters={"transfer": transfer})


def require_movable(group: Collection[Volume], *, holders: Collection[UUID] = ()) -> None:
    """Raises WrongState or Busy unless all of these can be copied now. `holders`: what moves with them."""
    for one in group:
        held = one.attachments.exclude(holder_id__in=holders).first()
        if held is not None:
            words = f"{one} is attached to {held.holder_name}."
            if len(group) > 1:
                words += f" {_names(group)} share what is on them, so they move together."
            raise WrongState(f"{words} Detach it, or move {held.holder_name}.")
        if one.type.is_served:
            raise WrongState(f"{one} stays on its storage host, and can be attached to instances on any other.")
        if one.failed_reason:
            raise WrongState(f"{one} has no data: {one.failed_reason} Delete it.")
        row = hosting.row_of(one)
        if row is None:
            raise WrongState(f"{one} is on no host yet. It gets one when it is first attached.")
        if not row.is_true or one.active.backup_id:
            raise engine.Busy(f"The host of {one} still works on its files. Try again in a moment.")
        require_not_read(one)


def require_not_read(volume: Volume) -> None:
    """Raises Busy while an image or a backup is made of it, or of a snapshot of it."""
    made_of = [str(volume.pk), *map(str, volume.snapshots.values_list("pk", flat=True))]
    image = Image.objects.filter(status=Image.Status.IMPORTING, source__id__in=made_of).first()
    backup = Backup.objects.filter(status=Backup.Status.MAKING, volume=volume).first()
    if made := image or backup:
        raise engine.Busy(f"{made} is being made of {volume}. Wait for it, or delete it.")


def route_to(group: Collection[Volume], target: Host) -> Route:
    """Raises UnfitVolume, WrongState, Busy."""
    source = next(iter(group)).active.host
    assert source is not None
    if not moving.can_move(source):
        raise WrongState(f"The agent of {source} is too old to send volumes: update it first.")
    require_reach(group, source, target)
    return Route(source, target)


def require_reach(group: Collection[Volume], source: Host, target: Host) -> None:
    """That a host can take these, and has nothing of them. Raises UnfitVolume, Busy."""
    if source.pk == target.pk:
        raise unfit("/host", f"{_names(group)} {'is' if len(group) == 1 else 'are'} on {target} already.")
    if not moving.able_hosts().filter(pk=target.pk).exists():
        raise unfit("/host", f"{target} takes no volumes now: it is not in service, or lacks qemu-img.")
    if away := next((one for one in group if not hosting.reaches(one, target)), None):
        raise unfit("/host", f"{target} does not {hosting.reaching(away)}.")
    if moving.clears_up(group, target):
        raise engine.Busy(f"{target} still removes what it had of them before. Try again in a moment.")


def choose(group: Collection[Volume]) -> Host:
    """The one with most room. Raises NoRoom."""
    source = next(iter(group)).active.host
    if source is None:
        raise WrongState(f"{_names(group)} is on no host yet. It gets one when it is first attached.")
    gib = sum(one.disk_gib for one in group)
    found = moving.able_hosts().exclude(pk=source.pk).filter(free_disk_gib__gte=gib).order_by("-free_disk_gib", "pk")
    host = next((one for one in found if all(hosting.reaches(volume, one) for volume in group)), None)
    if host is None:
        needs = [f"{gib} GiB free"] if gib else []
        needs += ["their shared folder mounted or Ceph pool in reach"] if any(one.active.pool for one in group) else []
        raise NoRoom(f"No other host that takes volumes has {' and '.join(needs)}.")
    return host


def _names(group: Iterable[Volume]) -> str:
    return ", ".join(sorted(one.name for one in group))
