"""Volumes, transfers and the making of images on a host that is lost.

A volume in a shared folder or in Ceph goes on at another host. One that was on the host's own disk keeps its row with
the reason, so that its backups can be found and restored; its snapshots are gone. So does one in a place that no other
host reaches, once an admin has given that up.
"""

from collections.abc import Iterator
from contextlib import suppress

from django.db import transaction
from django.db.models.functions import Now

from cloud.events.services import SYSTEM, record
from cloud.hosts.hosted import BROKEN
from cloud.hosts.models import Host
from cloud.hosts.resources import Stake
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Conflict
from storage import holders, hosting, importing, moving, pools, prices, trees
from storage.models import Attachment, ImageImport, Layer, Snapshot, TransferOnHost, Volume, VolumeOnHost
from storage.moving import Route
from storage.services import attaching
from storage.services.moving import choose
from storage.services.taking import take_it_over
from storage.services.volumes import delete
from storage.workflows import DeleteVolume

HOST_LOST = "Its host was declared lost."
LOST = "It was lost with its host. Restore a backup to a new volume."
LEFT_BEHIND = (
    "It was given up with its host, as no other host reaches the shared folder or Ceph pool where it is. Restore a "
    "backup to a new volume."
)


def volume(row: VolumeOnHost, live: Operation | None) -> None:
    volume = Volume.objects.select_related("active__host", "type", "project").get(pk=row.volume_id)
    is_deleted = live is not None and live.kind == DeleteVolume.kind
    if volume.active.host_id != row.host_id or not row.wanted:
        if not row.wanted:  # otherwise it was to come here: that is given up first
            hosting.forget(row)
    elif pools.is_lost(volume.active):
        if is_deleted:
            hosting.forget(row)
        else:
            _give_up(volume, row, live)
    elif is_deleted:
        group = moving.group_of([volume])
        assert row.host is not None
        moving.seize(group, Route(row.host, choose(group)))
    elif not _goes_with_its_holder(volume):
        if live is not None:
            engine.fail(live, HOST_LOST)
        _drop_next(volume)
        take_it_over(volume=volume, actor=SYSTEM)


def _goes_with_its_holder(volume: Volume) -> bool:
    """Whether what it is attached to boots from a volume, and so takes along all that it has."""
    held = Attachment.objects.filter(volume__active__tree=volume.active.tree).values("holder_id")
    return attaching.roots_elsewhere().filter(holder_id__in=held).exists()


def _drop_next(volume: Volume) -> None:
    """What was to be kept or gone back to comes to nothing."""
    Snapshot.objects.filter(volume=volume, consistency="").delete()
    if volume.next_id:
        Volume.objects.filter(pk=volume.pk).update(next=None)
        volume.next = None


def _give_up(volume: Volume, row: VolumeOnHost, live: Operation | None) -> None:
    if live is not None:
        engine.fail(live, HOST_LOST)
    goes_along = False  # made for what is lost too
    for held in volume.attachments.order_by("pk"):
        holder = holders.kind_of(held.holder_type)
        holder.tell(held.holder_id)
        if held.slot == 0:
            holder.lose_root(held.holder_id)
        goes_along = held.delete_with_holder and holder.is_given_up(held.holder_id)
        attaching.release(held, actor=SYSTEM)
    rows = Volume.objects.select_for_update(of=("self",)).select_related("active", "project", "type")
    volume = rows.get(pk=volume.pk)
    prices.settle(volume)
    for snapshot in volume.snapshots.order_by("name"):
        record("storage.snapshot.lose_with_host", snapshot, actor=SYSTEM, before={"volume": volume.name})
        snapshot.delete()
    hosting.forget(row)
    left, tree = volume.active.pool, volume.active.tree
    before = {"size_gib": volume.size_gib} | ({"pool": str(left), "tree": str(tree)} if left else {})
    volume.active = trees.first(size_gib=volume.size_gib, type=volume.type)
    volume.next, volume.failed_reason = None, LEFT_BEHIND if left else LOST
    volume.save(update_fields=["active", "next", "failed_reason"])
    trees.Tree(tree).sweep()
    record("storage.volume.lose_with_host", volume, actor=SYSTEM, before=before)
    if volume.trashed_at or goes_along:
        with suppress(Conflict), transaction.atomic():  # what is protected stays
            delete(volume=volume, actor=SYSTEM, cascade=True)


def transfer(row: TransferOnHost, live: Operation | None) -> None:
    """The other end clears up; what leads it sees that it has been given up."""
    if (found := moving.locked(row.transfer_id)) is not None:
        moving.give_up(found)
    moving.forget(row)


def image(row: ImageImport, live: Operation | None) -> None:
    """What leads it has another host try, unless only this one had what it was made of."""
    if not row.wanted:
        importing.forget(row)
    elif not row.has_been_seen(BROKEN):
        ImageImport.objects.filter(pk=row.pk).update(
            seen=BROKEN, seen_generation=row.generation, seen_problem=HOST_LOST, seen_at=Now()
        )


def at_stake(host: Host) -> Iterator[Stake]:
    there = Volume.objects.filter(active__host=host, failed_reason="").select_related("active", "project")
    for one in there.order_by("name", "pk"):
        fate = "lost" if _will_be_lost(one.active, host) else "taken_over"
        yield Stake("volume", one.pk, one.name, one.project.name, fate)
    for kept in Snapshot.objects.filter(layer__host=host).select_related("project", "layer").order_by("name"):
        if _will_be_lost(kept.layer, host):
            yield Stake("snapshot", kept.pk, kept.name, kept.project.name, "lost")


def _will_be_lost(layer: Layer, host: Host) -> bool:
    """Once the host is declared lost, or since it is."""
    return layer.pool is None or (host.leaves_behind and not pools.is_reached(layer.pool, but=host))
