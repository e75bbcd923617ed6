"""What the cloud tries by itself and gives up: it is said on the instance until somebody acts, and in the log."""

from cloud.events.services import SYSTEM, record
from compute.models import Instance


def note(instance: Instance, words: str) -> None:
    """The instance, which is locked, is in error with these words, until the next verb."""
    if instance.gave_up == words:
        return
    instance.gave_up = words
    instance.save(update_fields=["gave_up"])
    record("compute.instance.give_up", instance, actor=SYSTEM, after={"reason": words})
