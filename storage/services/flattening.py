"""Chains of layers that have become long are made short again, by the clock.

Each layer costs every read a little, and there is a limit. Layers that nothing but the next one needs become one; the
one that is written is none of them.
"""

from datetime import timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from cloud.events.services import SYSTEM, Actor, record
from cloud.hosts.hosted import raise_generation
from cloud.hosts.silence import reachable_since
from cloud.operations import engine
from cloud.operations.models import Operation, Outcome
from cloud.problems import Problem
from storage import hosting, trees
from storage.holders import replaces_layers
from storage.models import Layer, Volume
from storage.models.images import GIB
from storage.services.volumes import WrongState, at_rest, for_work
from storage.workflows import FlattenVolume

log = structlog.get_logger(__name__)

TRY_AGAIN = timedelta(days=1)  # what failed or was cancelled


def flatten(*, volume: Volume, actor: Actor) -> Operation:
    """Have its host make one layer of as many as can be. Raises WrongState when that is not worth it, or not possible
    now, InUse while it is attached to what runs and cannot replace layers meanwhile, NoRoom, Busy.
    """
    operation = engine.start(FlattenVolume, volume, actor=actor)
    held = volume.attachments.first()
    volume = for_work(volume) if held and replaces_layers(held) else at_rest(volume)
    if volume.active.rbd:
        raise WrongState(f"{volume} is in Ceph: there what nobody needs of a chain of layers goes by itself.")
    row, tree = hosting.row_of(volume), trees.tree_of(volume)
    if row is None or row.host is None or not hosting.merges_layers(row.host):
        raise WrongState(f"The host of {volume} cannot merge layers: it has no qemu-img, or its agent is too old.")
    if tree.is_read:
        raise WrongState(f"An image or a backup is being made of what {volume} stands on.")
    run, depth = tree.run(volume), len(tree.chain(volume.active_id))
    if not _is_worth_it(depth, saved=len(run) - 1):
        raise WrongState(f"{volume} stands on {depth} layers, and too few of them can become one.")
    used = row.seen_facts.get("used_bytes")
    hosting.take_room(volume, more_gib=min(volume.size_gib, -(-used // GIB)) if used else volume.size_gib)
    volume.next = trees.merged(run)
    volume.save(update_fields=["next"])
    raise_generation(row)
    operation.parameters = {"layers": [str(layer.pk) for layer in run]}
    operation.save(update_fields=["parameters"])
    record("storage.volume.flatten", volume, actor=actor, after={"layers": depth - len(run) + 1})
    return operation


def _is_worth_it(depth: int, *, saved: int) -> bool:
    """A merge copies all that is in its layers, so it should save a quarter of what is usual; near the limit any will
    do."""
    most = settings.VOLUME_MAX_LAYERS
    least = 1 if depth > (most + trees.MAX_DEPTH) // 2 else max(1, most // 4)
    return depth > most and saved >= least


def run_due() -> int:
    """Begin with volumes that stand on too many layers, one on each host. How many that were."""
    live = Operation.objects.filter(kind=FlattenVolume.kind, finished_at=None).values("subject_id")
    busy: set[UUID | None] = set(Volume.objects.filter(pk__in=live).values_list("active__host", flat=True))
    begun = 0
    for volume in _deep():
        if volume.active.host_id in busy:
            continue
        try:
            with transaction.atomic():
                flatten(volume=volume, actor=SYSTEM)
        except Problem as problem:  # in use, or nothing to gain: the next time will show
            log.debug("flattening.not_now", volume=str(volume.pk), why=problem.detail)
            continue
        busy.add(volume.active.host_id)
        begun += 1
    return begun


def _deep() -> "QuerySet[Volume]":
    """Those with a tree of more layers than usual, that nothing is done with, on hosts that can be reached."""
    large = (
        Layer.objects.filter(rbd=None)
        .values("tree")
        .annotate(layers=Count("pk"))
        .filter(layers__gt=settings.VOLUME_MAX_LAYERS)
    )
    given_up = Q(kind=FlattenVolume.kind, finished_at__gt=Now() - TRY_AGAIN) & ~Q(outcome=Outcome.DONE)
    hindered = Operation.objects.filter(Q(finished_at=None) | given_up, subject_id=OuterRef("pk"))
    volumes = Volume.objects.filter(active__tree__in=large.values("tree"), trashed_at=None, failed_reason="")
    reachable = volumes.filter(active__host__pulse__seen_at__gte=reachable_since())
    return reachable.exclude(Exists(hindered)).select_related("active").order_by("pk")
