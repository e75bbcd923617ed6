"""Moving: the rows of volumes and machines that are on their way to another host, by copying unless both share them.

All of a tree of layers moves at once, with every volume that stands on it. The files go to the target beside what is
there; one transaction then says that they are there, and only after it anything is removed from the source.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, Func, OuterRef, QuerySet, UUIDField, Value

from cloud.hosts import orders
from cloud.hosts.hosted import BROKEN, GONE, raise_generation, refusal
from cloud.hosts.models import Allocation, Host, Order
from cloud.hosts.silence import reachable_since
from cloud.operations import engine
from cloud.operations.models import FixBy, Operation
from cloud.operations.workflow import Refused, Topic, Wait
from cloud.queries import Prepared
from storage import hosting
from storage.models import Layer, Transfer, TransferOnHost, Volume, VolumeOnHost

TRANSFER = "transfer"  # as hosts call it
AT_ONCE = 100


@dataclass(frozen=True)
class Route:
    """From where to where."""

    source: Host
    target: Host


def can_move(host: Host) -> bool:
    """Whether a host can send and receive files of volumes and machines, as it says itself."""
    return bool(host.capabilities.get("transfers"))


def able_hosts() -> "QuerySet[Host]":
    """Those in service that can receive volumes."""
    found = Host.objects.filter(enabled=True, quarantined="", pulse__seen_at__gte=reachable_since())
    return found.filter(capabilities__transfers=True, capabilities__volumes__layers=True)


def group_of(volumes: Iterable[Volume]) -> list[Volume]:
    """All that stand on the same trees as these, locked: they move together, as they share what is on them."""
    trees = {volume.active.tree for volume in volumes}
    rows = Volume.objects.select_for_update(of=("self",)).select_related("active__host", "project")
    return list(rows.filter(active__tree__in=trees).order_by("pk"))


def used_bytes(volumes: Iterable[Volume]) -> int | None:
    """About how many bytes of files are copied with these, as their host last said; None: it did not."""
    trees = {volume.active.tree: volume for volume in volumes if not volume.active.pool}
    said = []
    for volume in trees.values():
        row = hosting.row_of(volume)
        said.append(row.seen_facts.get("used_bytes") if row else 0)
    return None if None in said else sum(said)


def files_of(volumes: Iterable[Volume]) -> list[dict[str, Any]]:
    """What hosts find the layers by: all of the trees of these."""
    trees = {volume.active.tree for volume in volumes}
    layers = Layer.objects.filter(tree__in=trees).order_by("tree", "created_at", "pk")
    return [
        {"of": hosting.VOLUME, "id": str(layer.tree), "name": str(layer.pk)}
        | ({"pool": str(layer.pool)} if layer.pool else {})
        for layer in layers
    ]


def carried(transfer: Transfer) -> list[Volume]:
    """The volumes that a transfer takes along."""
    trees = {file["id"] for file in transfer.files if file["of"] == hosting.VOLUME}
    return list(Volume.objects.filter(active__tree__in=trees).select_related("active__host").order_by("name"))


def begin(
    operation: Operation, route: Route, volumes: Sequence[Volume], *, files: Sequence[dict[str, Any]] = ()
) -> Transfer:
    """Make the rows of a move that an operation leads, with room on the target. `files`: what moves beside volumes.

    The volumes are locked, and all that stand on their trees. Raises NoRoom.
    """
    assert operation.project_id is not None
    made = Transfer.objects.create(
        project_id=operation.project_id, subject_type=operation.subject_type, subject_id=operation.subject_id,
        subject_name=operation.subject_name, source=route.source, target=route.target,
        files=[*files, *files_of(volumes)],
    )  # fmt: skip
    for host in (route.source, route.target):
        TransferOnHost.objects.create(transfer=made, host=host)
    try:
        with transaction.atomic():
            for volume in volumes:
                _announce(volume, route.target)
    except IntegrityError as full:
        gib = sum(volume.disk_gib for volume in volumes)
        raise hosting.NoRoom(f"The disk of {route.target} has no room for {gib} GiB of volumes.") from full
    operation.parameters = {**operation.parameters, "transfer": str(made.pk)}
    operation.save(update_fields=["parameters"])
    return made


def _announce(volume: Volume, target: Host) -> None:
    room = {"resource_type": hosting.VOLUME, "resource_id": volume.pk, "disk_gib": volume.disk_gib}
    Allocation.objects.create(host=target, **room)
    generation = orders.first_generation(target.pk, hosting.VOLUME, volume.pk)
    VolumeOnHost.objects.create(volume=volume, host=target, generation=generation)


def clears_up(volumes: Iterable[Volume], host: Host) -> bool:
    """Whether a host has one of these, and still removes it: it has left there a moment ago."""
    return VolumeOnHost.objects.filter(volume__in=list(volumes), host=host, wanted=False).exists()


# On the way. Each says what to wait for, None when it is done, and raises Refused.


def until_sent(transfer: Transfer) -> Wait | None:
    """Until its source has said what there is, and sent the first of it."""
    if not transfer.copied:
        return None
    if transfer.contents is not None and (transfer.sent or not transfer.blocks):
        return None
    return _until(transfer, transfer.source, "waiting for its host to send it")


def until_received(transfer: Transfer) -> Wait | None:
    """Until its target has all of it. Its source sends on meanwhile."""
    if not transfer.copied:
        return None
    waits = [_until(transfer, transfer.source, ""), _until(transfer, transfer.target, "it is being copied")]
    return waits[1]


def _until(transfer: Transfer, host: Host, because: str) -> Wait | None:
    rows = TransferOnHost.objects.select_for_update(of=("self",)).select_related("host", "transfer")
    row = rows.get(transfer=transfer, host=host)
    if row.is_done:
        return None
    if row.has_been_seen(BROKEN):
        raise refusal(row, otherwise="a host could not copy it")
    order(row)
    return Wait(hosting.LOOK_AGAIN_SECONDS, because=because, on=(Topic(TRANSFER, transfer.pk),))


def until_taken_in(transfer: Transfer) -> Wait | None:
    """Until its target has put all layers in their places."""
    rows = _arriving(transfer)
    if broken := next((row for row in rows if row.has_been_seen(BROKEN)), None):
        raise refusal(broken)
    if waiting := [row for row in rows if not row.is_true]:
        for row in waiting:
            hosting.order(row)
        topics = tuple(Topic(hosting.VOLUME, row.volume_id) for row in waiting)
        return Wait(hosting.LOOK_AGAIN_SECONDS, because=hosting.MAKING, on=topics)
    return None


def require_whole(transfer: Transfer) -> None:
    """That nothing has joined or left the trees since it began, so that what is copied is all. Raises Refused.

    Afterwards the layers are locked, and stay so.
    """
    named = {UUID(file["name"]) for file in transfer.files if file["of"] == hosting.VOLUME}
    trees = {UUID(file["id"]) for file in transfer.files if file["of"] == hosting.VOLUME}
    list(Layer.objects.select_for_update(of=("self",), no_key=True).filter(tree__in=trees).order_by("pk"))
    there = set(Layer.objects.filter(tree__in=trees).values_list("pk", flat=True))
    volumes = Volume.objects.filter(active__tree__in=trees)
    held = Operation.objects.filter(
        subject_type=hosting.VOLUME, subject_id=OuterRef("pk"), kind__in=(hosting.MOVING, hosting.ALONG),
        finished_at=None, cancel_requested_at=None, parameters__transfer=str(transfer.pk),
    )  # fmt: skip
    if there != named or volumes.exclude(Exists(held)).exists():
        words = "What was to be moved has changed meanwhile: a volume or a snapshot that belongs to it came or went."
        raise Refused(words, fix_by=FixBy.NOBODY)


def take_over(transfer: Transfer) -> None:
    """From now on all of it is on the target; the source is to remove it. Layers are locked."""
    trees = {file["id"] for file in transfer.files if file["of"] == hosting.VOLUME}
    # An instance may run on a host that is not heard of, though no row is left of it.
    taken_from = fence_of(transfer.source) if is_silent(transfer.source) else None
    _bring_to(transfer.target, trees, taken_from)
    for row in _rows(transfer.source, trees):
        hosting.leave(row)
    end(transfer, Transfer.Outcome.MOVED)


def seize(volumes: Sequence[Volume], route: Route) -> None:
    """From now on all of these are on the target, whose agent waits until the source can write nothing any more; the
    source is not asked, and hears of it when it is back. They are locked, and all that stand on their trees."""
    trees = {str(volume.active.tree) for volume in volumes}
    left = _rows(route.source, trees)
    list(Layer.objects.select_for_update(of=("self",), no_key=True).filter(tree__in=trees).order_by("pk"))
    for volume in volumes:
        _announce(volume, route.target)
    _bring_to(route.target, trees, fence_of(route.source))
    for row in left:
        hosting.leave(row)


def _bring_to(target: Host, trees: set[str], taken_from: UUID | None) -> None:
    """Write down that trees are on another host. `taken_from`: who may still write those in a pool; then the
    target is to wait until it cannot."""
    layers = Layer.objects.filter(tree__in=trees)
    layers.update(host=target, term=F("term") + 1)
    if taken_from is not None:
        name = Value(taken_from, UUIDField())
        layers.exclude(pool=None).update(taken_from=Func(F("taken_from"), name, function="array_append"))
        for row in _rows(target, trees):
            raise_generation(row)
            hosting.order(row)


def is_silent(host: Host) -> bool:
    """Whether nothing is heard of a host."""
    return not Host.objects.filter(pk=host.pk, pulse__seen_at__gte=reachable_since()).exists()


def fence_of(host: Host) -> UUID | None:
    """What a host calls itself in shared folders; None: its agent looks at no owner there."""
    told = host.capabilities.get("fence")
    return UUID(told) if told else None


def fences_in_ceph(host: Host) -> bool:
    """Whether its agent looks whose an image in Ceph is, and keeps others from writing one (decision 61)."""
    return bool(host.capabilities.get("volumes", {}).get("fences_in_ceph"))


def give_up(transfer: Transfer) -> None:
    """All of it stays where it is; the target is to remove what has come. Doing it twice is no error."""
    if transfer.outcome:
        return
    for row in _arriving(transfer):
        hosting.leave(row)
    end(transfer, Transfer.Outcome.GIVEN_UP)


def end(transfer: Transfer, outcome: str) -> None:
    """Both hosts are to clear up; those who wait for it look again."""
    transfer.outcome = outcome
    transfer.save(update_fields=["outcome"])
    rows = TransferOnHost.objects.select_for_update(of=("self",)).select_related("host", "transfer")
    for row in rows.filter(transfer=transfer, wanted=True).order_by("pk"):
        row.wanted = False
        row.save(update_fields=["wanted"])
        raise_generation(row)
        order(row)
    engine.tell_waiting(Topic(TRANSFER, transfer.pk))


def _arriving(transfer: Transfer) -> list[VolumeOnHost]:
    return _rows(transfer.target, {file["id"] for file in transfer.files if file["of"] == hosting.VOLUME})


def _rows(host: Host, trees: set[str]) -> list[VolumeOnHost]:
    """Locked."""
    rows = VolumeOnHost.objects.select_for_update(of=("self",)).select_related("host")
    return list(rows.filter(host=host, wanted=True, volume__active__tree__in=trees).order_by("pk"))


def locked(transfer_id: Any) -> Transfer | None:
    """A transfer by its id; None when there is none any more."""
    transfers = Transfer.objects.select_for_update(of=("self",)).select_related("source", "target")
    return transfers.filter(pk=transfer_id).first()


def led_by(subject_type: str, subject_id: UUID) -> Transfer | None:
    """The one that is under way with this, locked."""
    return _led_by.first(subject_type, subject_id)


@Prepared
def _led_by(subject_type: Any, subject_id: Any) -> "QuerySet[Transfer]":
    transfers = Transfer.objects.select_for_update(of=("self",)).select_related("source", "target")
    return transfers.filter(subject_type=subject_type, subject_id=subject_id, outcome="").order_by("pk")[:1]


# Its ends on hosts


def order(row: TransferOnHost) -> None:
    assert row.host is not None
    verb = "ensure_present" if row.wanted else "ensure_gone"
    orders.post(row.host, TRANSFER, row.transfer_id, verb, row.generation)


def noticed(row: TransferOnHost, before: str) -> None:
    """A report has been written: an end that has cleared up goes, and with the last one the transfer."""
    if not row.wanted and row.has_been_seen(GONE):
        forget(row)


def forget(row: TransferOnHost) -> None:
    transfer = row.transfer
    row.delete()
    if not transfer.ends.exists():
        transfer.delete()


def reconcile() -> None:
    """What hosts should have cleared up, and have no order for, is ordered again; what nobody leads is given up."""
    live = Operation.objects.filter(
        subject_type=OuterRef("subject_type"), subject_id=OuterRef("subject_id"), finished_at=None
    )
    for key in Transfer.objects.filter(~Exists(live), outcome="").values_list("pk", flat=True)[:AT_ONCE]:
        with transaction.atomic():
            if transfer := locked(key):
                give_up(transfer)
    ordered = Order.objects.filter(resource_id=OuterRef("transfer_id"), host=OuterRef("host"), answered_at=None)
    stale = TransferOnHost.objects.filter(wanted=False, host__pulse__seen_at__gte=reachable_since())
    for key in stale.exclude(Exists(ordered)).values_list("pk", flat=True)[:AT_ONCE]:
        with transaction.atomic():
            rows = TransferOnHost.objects.select_for_update(of=("self",)).select_related("host", "transfer")
            row = rows.filter(pk=key).first()
            if row is None:
                continue
            if row.has_been_seen(GONE):
                forget(row)
            else:
                raise_generation(row)
                order(row)
