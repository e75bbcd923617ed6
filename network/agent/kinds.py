"""The kinds `network` and `router`: what the worker asks the host's network process to make of its orders.

The process keeps nothing over a reboot, and may lose everything with its anchor. So what is wanted is compared with
what it has when the worker starts and whenever resources are looked at, and applied again where it is missing.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import structlog

from agent import faults
from agent.entries import Entry
from agent.errors import NoAnswer, Refused
from agent.host import Host
from agent.kinds import Kind, Sight, Tools
from agent.work import Work
from network.agent.client import NetworkProcess

log = structlog.get_logger()

VERBS = {"ensure_present": "present", "ensure_gone": "gone"}
SECONDS_TO_COME_UP = 15.0  # for the network process, when both start together
SECONDS_BETWEEN_TRIES = 0.2
SECONDS_THAT_A_LOOK_HOLDS = 1.0

T = TypeVar("T")

faults.declare(
    "network.ensure_present.before_apply",
    "network.ensure_present.after_apply",
    "network.ensure_gone.before_remove",
    "network.ensure_gone.after_remove",
)


def kinds(tools: Tools) -> list[Kind]:
    process = NetworkProcess(tools.paths)
    looks = Looks(process)
    return [Networks(tools, process, looks), Routers(tools, process, looks)]


class Looks:
    """What the network process has, asked once for all resources that are looked at together."""

    def __init__(self, process: NetworkProcess) -> None:
        self._process = process
        self._found: dict[str, Any] = {}
        self._at = 0.0

    def inventory(self) -> dict[str, Any]:
        """Raises NoAnswer."""
        if time.monotonic() - self._at > SECONDS_THAT_A_LOOK_HOLDS:
            self._found = self._process.inventory()
            self._at = time.monotonic()
        return self._found

    def forget(self) -> None:
        self._at = 0.0


class _Kind(Kind):
    """What networks and routers have in common."""

    verbs = VERBS

    def __init__(self, tools: Tools, process: NetworkProcess, looks: Looks) -> None:
        self._tools = tools
        self._process = process
        self._looks = looks

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        if verb == "ensure_gone":
            faults.reach("network.ensure_gone.before_remove")
            _patiently(lambda: self._process.remove(self.type, entry.id), work.check)
            faults.reach("network.ensure_gone.after_remove")
            return "gone", {}
        faults.reach("network.ensure_present.before_apply")
        sight = _patiently(lambda: self._apply(entry), work.check)
        faults.reach("network.ensure_present.after_apply")
        return sight

    def look(self, entry: Entry, ended: str) -> Sight | None:
        if entry.quarantined:
            return self.quarantine(entry)
        if entry.wanted != "present" or self._is_applied(entry):
            return None
        log.warning("applied again: it was not there", type=self.type, id=entry.id)
        return self._apply(entry)

    def strangers(self) -> Iterator[str]:
        try:
            found = self._process.inventory()
        except (NoAnswer, Refused):
            return
        yield from (each["id"] for each in found["resources"] if each["type"] == self.type)
        prefix = f"{self.type}-"
        yield from (name.removeprefix(prefix) for name in found["strangers"] if name.startswith(prefix))

    def start(self, host: Host) -> None:
        """Before machines go on after a reboot, their networks are there; no control plane is needed for it."""
        for entry in self._tools.ledger.entries(self.type):
            if entry.wanted != "present" or entry.order is not None or entry.quarantined:
                continue
            try:
                if not _patiently(lambda entry=entry: self._is_applied(entry), lambda: None):  # type: ignore[misc]
                    self._tools.ledger.saw(entry.key, *self._apply(entry))
            except (NoAnswer, Refused) as problem:
                log.error("not applied", type=self.type, id=entry.id, problem=str(problem))

    def problem(self) -> str:
        said = self._said()
        return "" if said["networks"] else "; ".join(said["missing"].values())

    def _said(self) -> dict[str, Any]:
        try:
            return self._process.capabilities()
        except (NoAnswer, Refused) as problem:
            return {"networks": False, "missing": {"process": str(problem)}}

    def _apply(self, entry: Entry) -> Sight:
        self._looks.forget()
        problems = self._process.apply(self.type, entry.id, entry.generation, entry.spec)
        return "present", {"problem": "; ".join(sorted(problems.values())), "problems": problems} if problems else {}

    def _is_applied(self, entry: Entry) -> bool:
        """Raises NoAnswer."""
        present = self._looks.inventory()["resources"]
        wanted = (self.type, entry.id, entry.generation)
        return any((each["type"], each["id"], each["generation"]) == wanted for each in present)


class Networks(_Kind):
    """Networks on this host. In quarantine nothing plugs into one any more; what is plugged stays."""

    type: ClassVar[str] = "network"

    def quarantine(self, entry: Entry) -> Sight | None:
        self._process.quarantine(entry.id, True)
        return None

    def release(self, entry: Entry) -> Sight | None:
        self._process.quarantine(entry.id, False)
        return None

    def capabilities(self) -> dict[str, Any]:
        return {"network": self._said() | {"awaited": True}}  # by machines, see `awaiting`

    def describe(self, entry: Entry) -> str:
        return str(entry.spec.get("network", {}).get("name", ""))


class Routers(_Kind):
    """Routers on this host. One in quarantine is taken away, and made again when it is released."""

    type: ClassVar[str] = "router"

    def quarantine(self, entry: Entry) -> Sight | None:
        self._process.remove(self.type, entry.id)
        return None

    def release(self, entry: Entry) -> Sight | None:
        return self._apply(entry) if entry.wanted == "present" else None

    def describe(self, entry: Entry) -> str:
        return str(entry.spec.get("router", {}).get("name", ""))


def _patiently(act: Callable[[], T], check: Callable[[], None]) -> T:
    """Try again for a while when the network process does not answer. Raises NoAnswer, and what `check` raises."""
    deadline = time.monotonic() + SECONDS_TO_COME_UP
    while True:
        try:
            return act()
        except NoAnswer:
            if time.monotonic() > deadline:
                raise
        check()
        time.sleep(SECONDS_BETWEEN_TRIES)
