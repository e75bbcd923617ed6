"""Kinds of resources that live on a host, such as `instance`, and what the host's ground floor asks of each.

An app registers its kinds in `<app>/agent/kinds.py` (`apps.py`): a function `kinds(tools)` returns them.
"""

import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from agent import apps
from agent.control_plane import ControlPlane
from agent.entries import Entry
from agent.jail import Jail
from agent.ledger import Ledger
from agent.paths import Paths
from agent.unwritten import Unwritten
from agent.work import Work

if TYPE_CHECKING:
    from agent.host import Host

Sight = tuple[str, dict[str, Any]]  # what is seen, and the facts about it
Problem = dict[str, str]  # {"what": "report" | "bells" | …, "problem": in words, and where there is one "type", "id"}


class Kind:
    """One kind of resource. Only what a kind can do has to be written: the rest has answers here.

    The resource is locked while `obey`, `look`, `quarantine`, `release` and `revive` run. They may raise Refused,
    NoAnswer or OSError: an order is then answered by `broken`, and whatever else was tried is tried again.
    """

    type: ClassVar[str]
    suffices: ClassVar[bool] = True  # a host on which only this kind can be is of use
    is_slow: ClassVar[bool] = False  # its orders take minutes: others do not wait for them to be done
    goes_last: ClassVar[bool] = False  # when the host goes down: what is on it may need this until it is off
    verbs: ClassVar[Mapping[str, str]]  # each verb of an order, and what it makes true: {"ensure_gone": "gone", …}

    # Orders

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        """Make true what the order says, and say what is seen then; doing it twice does no harm. Raises Abandoned."""
        raise NotImplementedError

    # What happens without an order

    def look(self, entry: Entry, ended: str) -> Sight | None:
        """What is seen now; None when there is nothing new to say. `ended`: how its process ended, if that is known."""
        return None

    def is_watched(self, entry: Entry) -> bool:
        """Whether the kind would notice by itself if anything happened to the resource: then it is looked at rarely."""
        return False

    def clear_up(self) -> None:
        """Remove what resources that are gone have left on the host."""

    def tidy(self) -> None:
        """Let go of what is kept for a while only."""

    # Quarantine

    def quarantine(self, entry: Entry) -> Sight | None:
        """Stop a resource that no row owns, and keep all of its data. Returns what is seen then."""
        return None

    def release(self, entry: Entry) -> Sight | None:
        """A row owns it after all: let it do what is wanted of it. What is seen then."""
        return None

    def strangers(self) -> Iterable[str]:
        """Ids of resources on this host, on disk or in the kernel, whether the ledger knows them or not."""
        return ()

    def adopt(self, resource_id: str) -> str:
        """Write down what the kind itself must know of a stranger before the ledger takes it in; what is seen of it."""
        return "unknown"

    # The host goes down and comes back

    def interrupt(self, entry: Entry, grace: float) -> Sight | None:
        """Switch it off because its host goes down, in `grace` seconds; None when it was not on."""
        return None

    def is_interrupted(self, entry: Entry) -> bool:
        """Whether it was switched off with its host and has to be resumed."""
        return False

    def needs_only_host(self, entry: Entry) -> bool:
        """Whether it may be resumed while the control plane does not answer."""
        return True

    def revive(self, entry: Entry, work: Work) -> Sight:
        """Go on after an interruption. Raises Abandoned."""
        raise NotImplementedError

    def stand_down(self, entry: Entry) -> None:
        """The control plane refused the report: an interrupted resource is not resumed by itself."""

    # The host's description of itself

    def capabilities(self) -> dict[str, Any]:
        """What this kind adds to the host's capabilities."""
        return {}

    def problem(self) -> str:
        """Why nothing of this kind could be on this host; empty when it could."""
        return ""

    def disk_bytes(self) -> int:
        """What resources of this kind use of the disk that the agent's home is on."""
        return 0

    def uses_file(self, entry: Entry, sha256: str) -> bool:
        """Whether it may need this file of the image cache."""
        return False

    def describe(self, entry: Entry) -> str:
        """What `pileus-agent status` adds to its line."""
        return ""

    # The host is lost

    def lose(self, entry: Entry) -> None:
        """An admin has declared this host lost: end at once what may run elsewhere by now, and keep all of its data.
        The resource is not locked, and this is called again and again."""

    # Beside the clock

    def start(self, host: "Host") -> None:
        """Begin what runs beside the clock, once; until `host.stopping` is set."""

    def wake(self) -> None:
        """Resources may have come or gone."""


@dataclass
class Tools:
    """What every kind works with."""

    paths: Paths
    ledger: Ledger
    control_plane: ControlPlane
    jail: Jail = field(default_factory=Jail)
    kinds: dict[str, Kind] = field(default_factory=dict)  # by type
    problems: list[Problem] = field(default_factory=list)  # found since this process began; the worker tells of them
    unwritten: Unwritten = field(init=False)

    def __post_init__(self) -> None:
        self.unwritten = Unwritten(self.ledger)

    def add(self, *kinds: Kind) -> None:
        self.kinds |= {kind.type: kind for kind in kinds}

    def is_file_used(self, sha256: str) -> bool:
        """Whether anything on this host may need this file of the image cache."""
        entries = [(self.kinds.get(entry.type), entry) for entry in self.ledger.entries()]
        return any(kind.uses_file(entry, sha256) for kind, entry in entries if kind)

    @contextmanager
    def lock(self, resource_id: str, *, wait: bool = True) -> Iterator[None]:
        """Hold a resource: one hand at a time, in whatever thread or process.

        Raises ValueError when the id is not a UUID, BlockingIOError unless `wait` when another hand has it.
        """
        path = self.paths.locks / str(uuid.UUID(resource_id))
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(lock)


def register(tools: Tools) -> None:
    """Give the tools the kinds of all apps."""
    for module in apps.modules("kinds"):
        tools.add(*module.kinds(tools))
