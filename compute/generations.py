"""Generations: the number of an instance's wish. A host refuses what is older than its ledger."""

from django.db.models import F

from compute.models import Instance

MOST_JUMP = 1_000_000


def raise_generation(instance: Instance) -> None:
    """Say that what a host should make true has changed. The only way to raise it; the row must be locked."""
    Instance.objects.filter(pk=instance.pk).update(generation=F("generation") + 1)
    instance.generation += 1


def catch_up(instance: Instance, ledger: int) -> bool:
    """Overtake a host's ledger that is ahead (the database was restored). False when the jump cannot be believed."""
    if not 0 <= ledger - instance.generation <= MOST_JUMP:
        return False
    Instance.objects.filter(pk=instance.pk).update(generation=ledger + 1)
    instance.generation = ledger + 1
    return True
