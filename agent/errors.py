"""What can go wrong on a host, by what should follow from it."""

YOU = "you"  # who asked for it: the cause is their content, their guest or their settings
OPERATOR = "operator"  # who runs the cloud: the cause is a host
NOBODY = "nobody"  # it passes: try again


class Refused(Exception):
    """The host cannot do this, and trying again as it is will not help. Its words are shown to the tenant.

    `fix_by`: who can do something about it.
    """

    def __init__(self, words: str = "", *, fix_by: str = OPERATOR) -> None:
        super().__init__(words)
        self.fix_by = fix_by


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


class DeclaredLost(Unreachable):
    """The control plane refuses this host, as an admin has declared it lost: what is on it may run elsewhere by now."""


def told(problem: Exception, words: str = "", *, of: str = "") -> dict[str, str]:
    """Facts for a report: a problem's words, and who can do something about it. `of`: what the facts' names begin with.

    What nobody has said is the operator's, so that no failure of a host stays unseen.
    """
    return {f"{of}problem": words or str(problem), f"{of}fix_by": getattr(problem, "fix_by", OPERATOR)}
