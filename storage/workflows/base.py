"""What the workflows of volumes share.

Files are made by the host where the volume is. What a machine has open, only its emulator changes: then its holder is
told, and waited for.
"""

from datetime import timedelta
from functools import cached_property
from uuid import UUID

from django.db import transaction

from cloud.operations.models import FixBy, Operation
from cloud.operations.workflow import DONE, Refused, Topic, Verdict, Wait, Workflow
from storage import holders, hosting
from storage.models import Attachment, Layer, Volume

KEEPING = "keep"  # the step in which a host keeps what is sealed, in Ceph


def until_sealed(layer: Layer, writer: UUID, name: str) -> Wait | None:
    """What to wait for until nobody writes a layer any more; `writer` is the volume that did, and its name.

    Raises Refused when that will not happen.
    """
    at_work = Operation.objects.filter(subject_type="volume", subject_id=writer, finished_at=None)
    if layer.sealed_at is not None and not (layer.rbd and at_work.filter(step=KEEPING).exists()):
        return None
    if not at_work.exists():
        raise Refused(f"{name} could not be set aside.", fix_by=FixBy.NOBODY)
    return Wait(hosting.LOOK_AGAIN_SECONDS, because=f"waiting for {name}", on=(Topic("volume", writer),))


@transaction.atomic
def let_go_of(layer: str | None) -> None:
    """What was made of a layer is made, or will not be: in Ceph its host keeps no more of it than is needed now."""
    trees = Layer.objects.filter(pk__in=[layer] if layer else []).exclude(rbd=None).values("tree")
    volumes = Volume.objects.select_for_update(of=("self",)).select_related("active__host")
    if volume := volumes.filter(active__tree__in=trees).order_by("pk").first():
        hosting.changed(volume)


def let_go_soon(layer: str | None) -> None:
    """The same once this transaction has committed, for what is deleted. What dies in between is left to the next
    order about the volume."""
    transaction.on_commit(lambda: let_go_of(layer), robust=True)


class VolumeWorkflow(Workflow):
    """Steps that several verbs share. The volume is locked for the whole step, except where its holder is."""

    subject_type = "volume"
    patience = timedelta(minutes=10)

    @cached_property
    def volume(self) -> Volume:
        volumes = Volume.objects.select_for_update(of=("self",)).select_related("active__host", "active__parent")
        return volumes.get(pk=self.operation.subject_id)

    def until_true(self) -> Wait | None:
        """What to wait for until its host has made true what is wanted. Raises Refused when it cannot."""
        return hosting.until_true(self.volume)


class Undone(VolumeWorkflow):
    """One that goes back to what was, when it fails or is cancelled."""

    def give_up(self) -> Verdict:
        return self.take_back

    def take_back(self) -> Verdict:
        """Wish again for what was there before, as far as nobody may have begun to use what was to come."""
        raise NotImplementedError

    def restore(self) -> Verdict:
        """Wait until what was taken back is true again, or is known to be broken."""
        try:
            return self.until_true() or DONE
        except Refused:
            return DONE


class WithHolder(Undone):
    """One in which an emulator has a part, if one has the volume open."""

    def tell_holder(self) -> Verdict:
        """Have its emulator see to what has changed."""
        if held := self.attachment:
            holders.kind_of(held.holder_type).tell(held.holder_id)
        return self.wait_for_holder

    def wait_for_holder(self) -> Verdict:
        held = self.attachment
        topic = holders.kind_of(held.holder_type).pending(held.holder_id) if held else None
        if held is None or topic is None:
            return self.finish
        because = f"waiting for {held.holder_type} {held.holder_name} to take it in"
        return Wait(hosting.LOOK_AGAIN_SECONDS, because=because, on=(topic,))

    def finish(self) -> Verdict:
        """Hosts have done their part."""
        return DONE

    @cached_property
    def attachment(self) -> Attachment | None:
        """As what it is attached. The volume is not locked by steps about its holder, which is locked before it."""
        return Attachment.objects.filter(volume=self.operation.subject_id).first()
