"""What can go wrong on a host, by what should follow from it."""


class Refused(Exception):
    """The host cannot do this, and trying again as it is will not help. Its words are shown to the tenant."""


class Abandoned(Exception):
    """The work was taken over by a newer order, or the worker is going down: leave things as they are, say nothing."""


class Stale(Exception):
    """An order older than what this host already obeys. `generation` is the ledger's."""

    def __init__(self, generation: int) -> None:
        super().__init__(f"the ledger is at generation {generation}")
        self.generation = generation


class NoAnswer(Exception):
    """A process of this host, such as an emulator, did not answer in time."""


class NotWritten(OSError):
    """The ledger cannot be written, mostly because the disk is full. Nothing that has to be in it first may be done."""


class Unreachable(Exception):
    """The control plane did not answer, or not sensibly: try again later. It says nothing about any resource."""
