"""What the loops over every workflow need to know of each kind of operation. Each app lists its own.

A list is `SCENARIOS` in `tests/<app>/scenarios.py`; `tests/test_every_workflow.py` joins them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from tests.clouds import SmallCloud


class Subjects(Protocol):
    """What is done with the subjects of an app's operations, whatever the operation."""

    def seen(self, subject_id: UUID) -> str | None:
        """What its host was last seen to make of it; None when there is no such row."""

    def delete(self, cloud: SmallCloud, subject_id: UUID) -> None:
        """Begin to delete it, in a transaction of its own."""

    def check(self, cloud: SmallCloud, subject_id: UUID) -> None:
        """Assert what holds of any subject at rest, beyond what `verify` checks."""


@dataclass(frozen=True)
class Scenario:
    """How one kind of operation comes about, and what is seen of its subject once it has ended."""

    kind: str
    subjects: Subjects
    prepare: Callable[[SmallCloud], Any]  # what is there before
    begin: Callable[[SmallCloud, Any], object]  # with what `prepare` gave: the verb, in a transaction of its own
    after: Mapping[str, str | None]  # outcome → what is seen
    deleted: str = "superseded"  # how it ends when its subject is deleted in the middle; "": as if it was not

    def __str__(self) -> str:
        return self.kind


def after(done: str | None, otherwise: str) -> dict[str, str | None]:
    """One thing is seen when the operation is done, another when it failed or was cancelled, none when superseded."""
    return {"done": done, "failed": otherwise, "cancelled": otherwise, "superseded": None}
