"""Emulators that do not answer, as the storage of a disk does not: QEMU pauses, resets and keeps a disk only when
nothing is on its way to any of them, and waits for that in the thread that also runs its monitor. Its guest stands
still then.

So the storage is asked before, and an emulator that has begun to wait all the same is freed after a while: its disk is
cut off, which is a power cut for that disk alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from agent.entries import Entry
from agent.errors import YOU, NoAnswer, Refused
from agent.work import Work
from compute.agent import disks
from compute.agent.disks import Layers

log = structlog.get_logger()

T = TypeVar("T")

SECONDS_TO_COME_BACK = 60.0  # of a storage, once an emulator waits for it
WAYS_OUT = "wait, detach the volume, or stop it by force"
WOULD_WAIT = f"the storage of one of its volumes does not answer, and it would stand still until that does: {WAYS_OUT}"
WAITS = f"the storage of one of its volumes does not answer, and it stands still until that does: {WAYS_OUT}"
CUT_OFF = (
    "a volume of it has lost its connection, as its storage did not answer in time, or by a failure on the host: "
    "the guest gets errors. Detach the volume and attach it again, or stop the instance and start it"
)


@dataclass(frozen=True)
class Silence:
    """What is known of the storage of one machine's disks. `is_stuck`: asks whether its emulator gives no answer."""

    machine: str
    layers: Layers
    is_stuck: Callable[[], bool]

    def is_there(self) -> bool:
        """Whether the storage of any disk does not answer. Takes some seconds to find that out."""
        return bool(self.layers.silent(self.machine))

    def refuse(self) -> None:
        """Before what makes an emulator wait for all that is on its way to a disk. Raises Refused."""
        if self.is_there():
            raise Refused(WOULD_WAIT, fix_by=YOU)

    def outlast(self, act: Callable[[], T], work: Work) -> T:
        """Do something with its emulator, which may be repeated. If the storage fell silent in the middle, it is done
        again when that has come back, or when it has not and its disk was cut off. Raises what `act` does, Abandoned.
        """
        try:
            return act()
        except NoAnswer:
            if not self.is_there():
                raise
        deadline = time.monotonic() + SECONDS_TO_COME_BACK
        while True:
            work.check()
            if not (self.is_stuck() and self.is_there()):
                break
            if time.monotonic() > deadline:
                log.error("its emulator waits for a storage that does not answer", machine=self.machine)
                self.layers.cut_off(self.machine)
                break
        return act()

    def has_cut_off(self, entry: Entry) -> bool:
        """Whether a disk that is plugged in has no connection to its storage any more."""
        plugged = entry.facts.get("volumes") or {}
        needed = [one for one in entry.spec.get("volumes") or () if one["id"] in plugged and disks.is_remote(one)]
        return bool(needed) and not self.layers.are_served(map(disks.remote_name, needed))
