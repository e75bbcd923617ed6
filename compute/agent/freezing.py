"""Holds the file systems of a guest still for the moment at which its disks are kept.

A guest that is left frozen hangs, so it is let go whatever happens. Before the guest is asked, a note is put beside the
machine's sockets; it goes when the guest has said that it goes on, or with the emulator. Whoever finds a note while
holding the machine's lock knows that a worker died in between, or that the agent did not answer, and thaws: each order,
and `guests.py` when a worker begins, and again until it is done.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent import faults, folders
from agent.errors import NoAnswer
from compute.agent import guest_agent
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Control, Power

log = structlog.get_logger()

PROBLEM = (
    "its guest agent was asked to hold the file systems still for a snapshot, and has not said that they go on. "
    "If the guest hangs, reboot it."
)

faults.declare("freeze.before_freeze", "freeze.after_freeze", "freeze.before_thaw", "freeze.after_thaw")


@dataclass
class Moment:
    """`was_still`: known once the moment is over."""

    was_still: bool = False


@contextlib.contextmanager
def held_still(home: Home, control: Control, *, can_freeze: bool, left: Callable[[], None]) -> Iterator[Moment]:
    """Hold the guest's file systems still as long as the context lasts, which is to be a moment.

    When that does not work the context is the same, and nothing is still. `left`: called when the guest may be left
    frozen. The machine is locked. Raises NoAnswer for its emulator.
    """
    moment, frozen = Moment(), 0
    try:
        if can_freeze and control.status().power == Power.RUNNING and control.guest_listens():
            frozen = _freeze(home)
        yield moment
    finally:
        if is_noted(home):
            faults.reach("freeze.before_thaw")
            moment.was_still = thaw_left(home) > 0 and frozen > 0
        if is_noted(home):
            left()


def is_noted(home: Home) -> bool:
    """Whether the guest may be frozen. With the machine locked: whether it was left so."""
    return folders.status(_path(home)) is not None


def thaw(home: Home) -> int:
    """Let the guest go on; how many file systems stood still until now. Raises NoAnswer: it has to be tried again."""
    with guest_agent.talk(home) as agent:
        thawed = agent.thaw()
    faults.reach("freeze.after_thaw")
    forget(home)
    return thawed


def forget(home: Home) -> None:
    """The guest begins anew: nothing is frozen in it."""
    folders.remove(_path(home))


def thaw_left(home: Home) -> int:
    """`thaw` if there is a note; 0 when there is none, or no answer."""
    if not is_noted(home):
        return 0
    try:
        return thaw(home)
    except (NoAnswer, OSError) as problem:
        log.warning("a guest may be frozen", machine=home.directory.name, problem=str(problem))
        return 0


def _freeze(home: Home) -> int:
    """How many file systems stand still. Without a note nobody freezes: the next worker has to know of it."""
    thaw_left(home)
    if is_noted(home):
        return 0
    try:
        with guest_agent.talk(home) as agent:
            folders.create_file(_path(home)).close()
            faults.reach("freeze.before_freeze")
            frozen = agent.freeze()
            faults.reach("freeze.after_freeze")
            return frozen
    except (NoAnswer, OSError) as problem:  # it may freeze later: it is thawed all the same
        log.warning("a guest does not hold still", machine=home.directory.name, problem=str(problem))
        return 0


def _path(home: Home) -> Path:
    return home.runtime / "frozen"
