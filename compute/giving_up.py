"""What the cloud gives up: it is said on the instance until somebody acts, and in the log."""

from django.db.models.functions import Now

from cloud.costs import kinds
from cloud.events.services import SYSTEM, record
from compute import moves, networking, volumes
from compute.models import Instance, Power
from storage import pools
from storage.models import Attachment


def note(instance: Instance, words: str) -> None:
    """The instance, which is locked, is in error with these words, until the next verb."""
    if instance.gave_up == words:
        return
    instance.gave_up = words
    instance.save(update_fields=["gave_up"])
    record("compute.instance.give_up", instance, actor=SYSTEM, after={"reason": words})


def lose(instance: Instance, words: str) -> None:
    """What it boots from is gone: keep the row with the reason, its ports with their addresses, and nothing else. It
    is locked. Its machine is left to the caller; of its volumes what was made for it and is lost too is deleted."""
    record("compute.instance.lose_with_host", instance, actor=SYSTEM, before={"seen_power": instance.seen})
    kinds.end("instance", instance.pk, instance.project_id)
    moves.abandon(instance)
    volumes.let_go(instance, goes_along=_is_lost)
    instance.machine = None
    networking.follow(instance)
    Instance.objects.filter(pk=instance.pk).update(
        machine=None, wanted_power=Power.STOPPED, failed_at=Now(), failed_reason=words, gave_up="", restarted_at=[],
        host_wish=None, snapshot=None, clone_of_snapshot=None,
    )  # fmt: skip


def _is_lost(held: Attachment) -> bool:
    """Made for it, and lost with its host. What is elsewhere stays, for another instance."""
    return held.delete_with_holder and pools.is_lost(held.volume.active)
