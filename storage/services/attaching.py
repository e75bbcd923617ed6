"""Attachments: which volumes are disks of what. Called by the app of the holder, in its own transactions."""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from cloud.events.services import Actor, record
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.problems import Conflict, explain_constraint
from cloud.queries import Prepared
from cloud.uses import refuse_if_used
from storage import hosting
from storage.backing_up import HOLDING
from storage.models import Attachment, Volume
from storage.models.types import PoolKind
from storage.models.volumes import MAX_SLOT
from storage.services.volumes import WrongState, delete, holders_of

KEY_BYTES = 32

explain_constraint("volume_is_attached_once", "The volume is attached already. Detach it there first.")
explain_constraint("holder_has_one_volume_a_slot", "Another volume is attached there.")
explain_constraint("holder_has_a_volume_in_one_slot", "It has this volume already.")


class NoSlot(Conflict):
    """The holder has as many volumes as it can have."""

    title: ClassVar[str] = "No further volume can be attached"


@dataclass(frozen=True)
class Holder:
    """What a volume is attached to. `slot` None: the first one that is free, from 1 on; 0 is what it boots from."""

    type: str
    id: UUID
    name: str
    slot: int | None = None


def attach(
    *, volume: Volume, holder: Holder, actor: Actor, read_only: bool = False, delete_with_holder: bool = False
) -> Attachment:
    """Make a volume a disk of something. Raises InUse when it is one already and not all of them only read, NoSlot,
    WrongState, Busy."""
    rows = Volume.objects.select_for_update(of=("self",)).select_related("active__host", "type")
    volume = rows.get(pk=volume.pk)
    _require_free(volume, holder, read_only=read_only)
    if volume.trashed_at:
        raise WrongState(f"{volume} is in the trash. Restore it first.")
    if volume.failed_reason:
        raise WrongState(f"{volume} has no data: {volume.failed_reason} Delete it.")
    live = Operation.objects.filter(subject_type="volume", subject_id=volume.pk, finished_at=None).first()
    if live is not None:
        raise engine.Busy.with_operation(live, str(volume))
    slot = _free_slot(holder) if holder.slot is None else holder.slot
    attachment = Attachment.objects.create(
        volume=volume, holder_type=holder.type, holder_id=holder.id, holder_name=holder.name, slot=slot,
        read_only=read_only, delete_with_holder=delete_with_holder,
        key=_new_key() if volume.type.is_served else "",
    )  # fmt: skip
    if volume.type.is_served:
        hosting.changed(volume)
    after = {"holder": f"{holder.type} {holder.name}", "slot": slot, "read_only": read_only}
    record("storage.volume.attach", volume, actor=actor, after=after)
    return attachment


def _require_free(volume: Volume, holder: Holder, *, read_only: bool) -> None:
    """Raises InUse unless nothing has the volume, or all that have it only read, as this one is to. It is locked."""
    held = list(volume.attachments.all())
    if any(one.holder_id == holder.id for one in held):
        hint = "It has it already."
    elif not all(one.read_only for one in held):
        hint = "Detach it there first."
    elif not read_only:
        hint = "It is only read there: attach it read-only, too, or detach it there first."
    elif not volume.type.has_readers:
        hint = "A volume of this type has one holder at a time, also when it is only read. Detach it there first."
    else:
        return
    refuse_if_used(volume, holders_of(volume), hint=hint)


def _new_key() -> str:
    return secrets.token_hex(KEY_BYTES)


def _free_slot(holder: Holder) -> int:
    """The holder is locked by its app."""
    taken = set(held_by(holder.type, holder.id).values_list("slot", flat=True))
    free = next((slot for slot in range(1, MAX_SLOT + 1) if slot not in taken), None)
    if free is None:
        raise NoSlot(f"{holder.name} has {MAX_SLOT} volumes, and can have no more.")
    return free


def held_by(holder_type: str, holder_id: UUID) -> "QuerySet[Attachment]":
    """The attachments of a holder, by their slots."""
    held = Attachment.objects.filter(holder_type=holder_type, holder_id=holder_id)
    return held.select_related("volume__active__host", "volume__type").order_by("slot")


def roots_elsewhere() -> "QuerySet[Attachment]":
    """What is booted from that does not end with the host of its holder: in a shared folder, in Ceph, or on the disk of
    a storage host that is not lost."""
    served = Q(volume__type__pool_kind=PoolKind.NBD, volume__active__host__lost_at=None)
    return Attachment.objects.filter(Q(volume__active__pool__isnull=False) | served, slot=0)


def change_keys(holder_type: str, holder_id: UUID) -> None:
    """The holder is on another host from now on: the one before loses what storage hosts serve to it. It is locked."""
    for attachment in held_by(holder_type, holder_id).filter(key__gt="").select_for_update(of=("self",)):
        attachment.key = _new_key()
        attachment.save(update_fields=["key"])
        hosting.changed(attachment.volume)


def require_not_copied(volume: Volume) -> None:
    """Raises Busy while its host copies it for a backup, from what it is attached to."""
    live = Operation.objects.filter(subject_type="volume", subject_id=volume.pk, finished_at=None, kind=HOLDING).first()
    if live is not None:
        raise engine.Busy.with_operation(live, str(volume))


def leave(attachment: Attachment) -> None:
    """The holder is to let go of it: its machine's spec does not name it any more."""
    Attachment.objects.filter(pk=attachment.pk).update(wanted=False)


def release(attachment: Attachment, *, actor: Actor) -> None:
    """The holder has let go of it."""
    before = {"holder": f"{attachment.holder_type} {attachment.holder_name}", "slot": attachment.slot}
    record("storage.volume.detach", attachment.volume, actor=actor, before=before)
    attachment.delete()
    if attachment.volume.type.is_served:  # whoever has it open on another host loses it
        hosting.changed(attachment.volume)


def release_all(
    *,
    holder_type: str,
    holder_id: UUID,
    actor: Actor,
    goes_along: Callable[[Attachment], bool] = attrgetter("delete_with_holder"),
) -> None:
    """The holder is gone: what `goes_along` is deleted, as a rule what was made for it; the others are free again."""
    for attachment in _locked.rows(holder_type, holder_id):
        release(attachment, actor=actor)
        if goes_along(attachment):
            with contextlib.suppress(Conflict), transaction.atomic():  # what is protected stays
                delete(volume=attachment.volume, actor=actor, cascade=True)


@Prepared
def _locked(holder_type: Any, holder_id: Any) -> "QuerySet[Attachment]":
    return held_by(holder_type, holder_id).select_for_update(of=("self",))


def rename_holder(*, holder_type: str, holder_id: UUID, name: str) -> None:
    """What it is attached to has another name now."""
    Attachment.objects.filter(holder_type=holder_type, holder_id=holder_id).update(holder_name=name)
