"""Rows that hosts make true: the number of what is wanted of them, and what was last seen of them.

The ordered unit is one row on one host. Where a resource is on many hosts at once, each (resource, host) is a row of
its own, with an id and a generation of its own.
"""

from typing import Any, ClassVar

from django.db import models
from django.db.models import F

from cloud.hosts.models import Host
from cloud.operations.models import FixBy
from cloud.operations.workflow import Refused

UNKNOWN, BROKEN, GONE = "unknown", "broken", "gone"  # what may be seen of every kind of resource
MAX_JUMP = 1_000_000  # generations that a host's ledger may be ahead and still be believed


class Hosted(models.Model):
    """What one host is ordered to make true, and what it reports about it. Written by `reports.receive` only."""

    id_on_hosts: ClassVar[str] = "id"  # the field whose UUID hosts know it by

    host = models.ForeignKey(Host, null=True, on_delete=models.PROTECT, related_name="%(class)ss")
    generation = models.PositiveBigIntegerField(default=1)  # of what is wanted; see `raise_generation`
    seen = models.CharField(max_length=20, default=UNKNOWN)  # a word of its kind
    seen_generation = models.PositiveBigIntegerField(default=0)
    seen_sequence = models.PositiveBigIntegerField(default=0)
    seen_problem = models.TextField(blank=True)
    seen_facts = models.JSONField(default=dict)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True

    def has_been_seen(self, *words: str) -> bool:
        """Whether it was last seen in one of these states, by a report about its present generation."""
        return self.seen in words and self.is_up_to_date()

    def is_up_to_date(self) -> bool:
        """Whether the last report was about its present generation."""
        return self.seen_generation == self.generation


def refusal(row: Any, *, of: str = "", otherwise: str = "the host could not do it") -> Refused:
    """What a host says that it cannot do, and who can do something about it: the operator, unless it says otherwise.

    `of`: what the names of such facts begin with, as in `agent.errors.told`.
    """
    words = row.seen_facts.get(f"{of}problem") if of else row.seen_problem
    said = row.seen_facts.get(f"{of}fix_by")
    return Refused(str(words or otherwise), fix_by=FixBy(said) if said in FixBy.values else FixBy.OPERATOR)


def raise_generation(row: Hosted) -> None:
    """Say that what a host should make true has changed. The only way to raise it; the row must be locked."""
    type(row)._default_manager.filter(pk=row.pk).update(generation=F("generation") + 1)
    row.generation += 1


def catch_up(row: Hosted, ledger: int) -> bool:
    """Overtake a host's ledger that is ahead (the database was restored). False when the jump cannot be believed."""
    if not 0 <= ledger - row.generation <= MAX_JUMP:
        return False
    type(row)._default_manager.filter(pk=row.pk).update(generation=ledger + 1)
    row.generation = ledger + 1
    return True
