"""Why a service refuses."""

from typing import Any, ClassVar

from cloud.problems import Problem
from compute.models import Instance


class NoCapacity(Problem):
    """No host can take the instance."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "no_capacity"
    title: ClassVar[str] = "No host has room for this instance"
    fix_by: ClassVar[Any] = "operator"


class UnfitLaunch(Problem):
    """The parts of a launch do not fit together; `errors` names every one."""

    title: ClassVar[str] = "The instance cannot be launched like this"


class UnfitFlavor(Problem):
    """An instance cannot have another flavor; `errors` names every fault."""

    title: ClassVar[str] = "The instance cannot have this flavor"


class NamesTaken(Problem):
    """Of the names that a number of instances would get, some are not free."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "conflict"
    title: ClassVar[str] = "This is in conflict with what is there"


class WrongState(Problem):
    """The verb makes no sense in the state that the instance is in."""

    status: ClassVar[int] = 409
    code: ClassVar[str] = "conflict"
    title: ClassVar[str] = "Not possible in this state"


def require(instance: Instance, refusal: str) -> None:
    """Raise WrongState with a sentence of `compute.why_not`, which names the instance; "" is no refusal."""
    if refusal:
        about_it = refusal.startswith("It ")
        raise WrongState(f"{instance.name} {refusal.removeprefix('It ')}" if about_it else refusal)
