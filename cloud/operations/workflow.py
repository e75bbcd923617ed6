"""What a workflow is: the steps of one kind of operation. A step acts on rows and says what comes next.

A step never touches the network and never waits, so it takes milliseconds and the row lock can be the lease; it may be
run again at any time, because a crash rolls it back and the next worker begins it anew.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from cloud.operations.models import FixBy, Operation


class Refused(Exception):
    """The operation gives up and clears up. `fix_by`: who can do something about it; the operator, who looks after
    everything, unless somebody knows better."""

    def __init__(self, words: str = "", *, fix_by: FixBy = FixBy.OPERATOR) -> None:
        super().__init__(words)
        self.fix_by = fix_by


class Topic(NamedTuple):
    """Something that may be waited for: mostly a resource, by its type and id."""

    type: str
    id: UUID

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


@dataclass(frozen=True)
class Wait:
    """Look again at this step after some seconds, or as soon as something wakes the operation.

    A report about the operation's own resource always wakes it. `on` names what else does: an accepted report about
    one of these, or the end of an operation on it. A wake-up may get lost; then it is the seconds that count.
    """

    seconds: float
    because: str
    on: tuple[Topic, ...] = ()


class Done:
    """The operation has reached its end."""


DONE = Done()
Verdict = Callable[[], Any] | Wait | Done  # a step is what returns the next verdict
Step = Callable[[], Verdict]


class Everything(Container[str]):
    """Every kind of operation, also those that nobody has thought of yet."""

    def __contains__(self, kind: object) -> bool:
        return True


EVERYTHING = Everything()


class Workflow:
    """Base of all workflows. Subclasses register themselves under their `kind`."""

    kind: ClassVar[str]
    subject_type: ClassVar[str]
    first: ClassVar[str]
    patience: ClassVar[timedelta]
    supersedes: ClassVar[Container[str]] = frozenset()  # kinds that this one takes over from
    persists: ClassVar[bool] = False  # a refusal is only a stumble: nothing but a cancel ends this work undone
    known: ClassVar[dict[str, type["Workflow"]]] = {}

    def __init_subclass__(cls) -> None:
        if "kind" in cls.__dict__:
            Workflow.known[cls.kind] = cls

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def step(self, name: str) -> Step:
        """The step of that name."""
        step: Step = getattr(self, name)
        return step

    def give_up(self) -> Verdict:
        """Where to go once trying again is pointless, or unwanted: the step that clears up."""
        return DONE

    def is_reached(self) -> bool:
        """Whether the result is already there: then it wins over a cancel that came too late."""
        return False

    def may_cancel(self) -> bool:
        """Whether giving up is still possible."""
        return True

    def progress(self, done: int, of: int, unit: str) -> None:
        """Note how far the work has come, e.g. `progress(3, 10, "MiB")`."""
        self.operation.progress_done, self.operation.progress_of, self.operation.progress_unit = done, of, unit
