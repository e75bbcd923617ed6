"""This host: obeys orders, observes and reports resources of every kind, and describes itself.

Everything here may be called at any time, by anybody, again: threads and clocks are in `worker.py` and `rounds.py`.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from agent import system
from agent.entries import Entry, Key
from agent.errors import DeclaredLost, NoAnswer, Refused
from agent.kinds import Problem, Tools
from agent.orders import Orders, Spawn
from agent.reports import Reports

log = structlog.get_logger()

SECONDS_WITHOUT_ANSWER = 60.0
MAX_PROBLEMS = 100  # in a heartbeat
MIN_FREE_MIB = 16  # of the disk, for the ledger
QUARANTINED = "quarantined"


class Host:
    """This host. `spawn` runs something beside what is going on: a thread in the worker, at once in tests."""

    def __init__(self, tools: Tools, *, spawn: Spawn | None = None) -> None:
        self.tools = tools
        self.paths = tools.paths
        self.ledger = tools.ledger
        self.control_plane = tools.control_plane
        self.kinds = tools.kinds
        self.changed = threading.Event()  # something was seen that the control plane should hear of now
        self.stopping = threading.Event()
        self.is_lost = False  # an admin has declared it lost, as the control plane says
        self._spawn = spawn or (lambda task: task())
        self._orders = Orders(tools, self._spawn, self.changed.set)
        self._reports = Reports(tools)
        self.problems_of: list[Callable[[], list[Problem]]] = [
            lambda: tools.problems,
            self._reports.problems,
            self._disk_problems,
        ]
        self._room = system.Room(tools.paths.home, lambda: sum(kind.disk_bytes() for kind in self.kinds.values()))
        self._load = system.Load(tools.paths.home)
        self._unseen: dict[Key, str] = {}  # resources that could not be looked at, and how their processes ended
        self._began = time.monotonic()

    def tidy(self) -> None:
        """Let go of what is kept for a while only."""
        self.ledger.forget_tombstones()
        for kind in self.kinds.values():
            kind.tidy()

    # Orders

    def look(self) -> int:
        """Claim orders and obey them; how many were claimed. Raises Unreachable."""
        with self._heeding():
            return self._orders.claim()

    def renew_leases(self) -> None:
        """Keep the orders in hand ours; abandon those that are not any more. Raises Unreachable."""
        with self._heeding():
            self._orders.renew()

    def stop(self) -> None:
        """The worker goes down: leave the work in hand for the next one."""
        self.stopping.set()
        self.changed.set()
        self._orders.abandon()

    def beside(self, task: Callable[[], None]) -> None:
        """Run something beside what is going on."""
        self._spawn(task)

    def wake(self) -> None:
        """Tell all kinds that resources may have come or gone."""
        for kind in self.kinds.values():
            kind.wake()

    def is_idle(self) -> bool:
        return not len(self._orders)

    # What is seen

    def send_reports(self) -> None:
        """Send every report that is owed. Raises Unreachable: then it is owed still."""
        with self._heeding():
            self._reports.send()

    def notice(self, key: Key, ended: str = "") -> None:
        """Look at a resource to which something may have happened; again soon, when it cannot be seen now.

        `ended`: how its process ended, if that is known.
        """
        ended = self._unseen.pop(key, "") or ended
        try:
            if self._has_changed(key, ended):
                self.changed.set()
        except BlockingIOError:
            self._unseen[key] = ended
        except (NoAnswer, Refused, OSError) as problem:
            log.warning("cannot see a resource", type=key.type, id=key.id, problem=str(problem))
            self._unseen[key] = ended

    def _has_changed(self, key: Key, ended: str) -> bool:
        """See how a resource is and write down what changed by itself. Raises BlockingIOError, NoAnswer, Refused."""
        kind = self.kinds.get(key.type)
        if kind is None:
            return False
        with self.tools.lock(key.id, wait=False):
            entry = self.ledger.get(key)
            if entry is None or entry.order is not None or entry.seen == "gone":
                return False
            sight = kind.look(entry, ended)
            if sight is None or (sight[0] == entry.seen and sight[1].get("problem") == entry.facts.get("problem")):
                return False
            self.ledger.saw(key, *sight)
            return True

    def notice_all(self, *, thoroughly: bool) -> None:
        """Look at all resources; unless `thoroughly`, not at those whose kind watches them."""
        for entry in self.ledger.entries():
            kind = self.kinds.get(entry.type)
            if kind and (thoroughly or entry.key in self._unseen or not kind.is_watched(entry)):
                self.notice(entry.key)
        if thoroughly:
            for kind in self.kinds.values():
                kind.clear_up()

    # The host goes down and comes back

    def interrupt(self, entry: Entry, grace: float) -> bool:
        """Switch a resource off because its host goes down; its wanted state stays. Returns whether it was on."""
        kind = self.kinds.get(entry.type)
        if kind is None:
            return False
        with self.tools.lock(entry.id):
            present = self.ledger.get(entry.key)
            sight = kind.interrupt(present, grace) if present else None
            if sight:
                self.ledger.saw(entry.key, *sight)
            return sight is not None

    def revive(self) -> None:
        """Go on with what was interrupted with this host: once the control plane has taken the report of it, or has
        not answered for a minute and the resource depends on nothing but this host."""
        for entry in () if self.is_lost else self.ledger.entries():
            kind = self.kinds.get(entry.type)
            if kind is None or entry.key in self._orders or not kind.is_interrupted(entry):
                continue
            alone = time.monotonic() - self._began > SECONDS_WITHOUT_ANSWER and kind.needs_only_host(entry)
            if entry.report is None or alone:
                self._orders.revive(entry)

    # The host is lost

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        """Ask the control plane something. Before anything else is done, a host that is lost ends what it has."""
        try:
            yield
        except DeclaredLost as words:
            self._lose(str(words))
            raise

    def _lose(self, words: str) -> None:
        """End all that may run on another host by now; what was just being started ends with the next call."""
        if not self.is_lost:
            log.error("this host was declared lost: all that runs on it is ended", problem=words)
        self.is_lost = True
        self._orders.abandon()
        for entry in self.ledger.entries():
            if kind := self.kinds.get(entry.type):
                try:
                    kind.lose(entry)
                except (NoAnswer, Refused, OSError) as problem:
                    log.warning("cannot end a resource", type=entry.type, id=entry.id, problem=str(problem))

    # The heartbeat

    def capabilities(self) -> dict[str, Any]:
        found = {"jail": self.tools.jail.describe(), "kernel": system.kernel(), "cpu_model": system.cpu_model()}
        for kind in self.kinds.values():
            found |= kind.capabilities()
        return found

    def capacity(self) -> dict[str, Any]:
        return self._room.capacity()

    def inventory(self) -> list[dict[str, Any]]:
        """Everything on this host that is a resource, owned or not."""
        return [
            {
                "type": entry.type,
                "id": entry.id,
                "generation": entry.generation,
                "sequence": entry.sequence,
                "seen": QUARANTINED if entry.quarantined else entry.seen,
            }
            for entry in self.ledger.entries()
        ]

    def heartbeat(self) -> dict[str, Any]:
        """Send a heartbeat with the inventory; quarantine what no row owns. Returns the control plane's answer.

        Raises Unreachable.
        """
        inventory = self.inventory()
        body = {
            "boot_id": system.boot_id(),
            "agent_version": system.VERSION,
            "capacity": self.capacity(),
            "load": self._load.now(),
            "capabilities": self.capabilities(),
            "inventory": inventory,
            "problems": [problem for ask in self.problems_of for problem in ask()][:MAX_PROBLEMS],
        }
        with self._heeding():
            answer = self.control_plane.heartbeat(body)
        unowned = {Key(item["type"], item["id"]) for item in answer.get("unowned", [])}
        said = {Key(item["type"], item["id"]) for item in inventory}
        for entry in self.ledger.entries():
            if entry.key in unowned and not entry.quarantined:
                log.warning("quarantined: nobody owns it", type=entry.type, id=entry.id)
                self.set_quarantined(entry.key)
            elif entry.quarantined and entry.key in said - unowned:
                self.set_quarantined(entry.key, quarantined=False)
        return answer

    def _disk_problems(self) -> list[Problem]:
        """Why orders cannot be written down, so that nothing can be done here."""
        free_mib = shutil.disk_usage(self.paths.home).free >> 20
        problem = self.ledger.try_again()
        if not problem and free_mib < MIN_FREE_MIB:
            problem = f"this host's disk is full: {free_mib} MiB are free"
        return [{"what": "disk", "problem": problem}] if problem else []

    # Quarantine

    def set_quarantined(self, key: Key, *, quarantined: bool = True) -> None:
        """Quarantine a resource that no row owns, or release it. While an order is being obeyed nothing happens: the
        next heartbeat asks again."""
        kind = self.kinds.get(key.type)
        try:
            with self.tools.lock(key.id, wait=False):
                entry = self.ledger.get(key)
                if entry is None or entry.seen == "gone" or entry.quarantined == quarantined:
                    return
                self.ledger.quarantine(key, quarantined=quarantined)
                if kind is None:
                    return
                sight = kind.quarantine(entry) if quarantined else kind.release(entry)
                if sight:
                    self.ledger.saw(key, *sight)
        except BlockingIOError:
            return
        except (NoAnswer, Refused, OSError) as problem:
            log.warning("cannot quarantine or release", type=key.type, id=key.id, problem=str(problem))

    def quarantine_strangers(self) -> None:
        """Take resources into the ledger that are on this host but not in it, after the ledger was lost say: unowned
        until the control plane says otherwise."""
        for kind in self.kinds.values():
            for resource_id in kind.strangers():
                key = Key(kind.type, resource_id)
                if self.ledger.get(key) is None:
                    log.warning("quarantined: it is in no ledger", type=key.type, id=key.id)
                    self.ledger.take_in_stranger(key, kind.adopt(resource_id))
                    self.set_quarantined(key)
