"""Finds out in which guests an agent answers, and thaws guests that a worker left frozen.

It asks when something has happened to a machine, which an emulator says of the channel to the agent as well; and again
while the agent does not answer. Each guest is asked beside what is going on, so one that is silent keeps nobody waiting
but, for seconds, its own orders.
"""

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.errors import NoAnswer, Refused
from agent.host import Host
from agent.kinds import Tools
from compute.agent import freezing, guest_agent, sockets
from compute.agent.records import key

if TYPE_CHECKING:
    from compute.agent.kinds import Machines

log = structlog.get_logger()

SECONDS_TO_SETTLE = 0.5  # what has happened is looked at first: a machine is in one hand at a time
# By the number of tries without an answer; none: somebody else had the machine in hand.
SECONDS_BETWEEN_TRIES = (2.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
SECONDS_BETWEEN_TURNS = 5.0  # of one guest, however often its agent comes and goes
MAX_SECONDS_ASLEEP = 5.0


@dataclass(frozen=True)
class Turn:
    """When a guest is to be asked, and how often it gave no answer before."""

    due: float
    tries: int = 0


class Guests(threading.Thread):
    """Asks guests; what it finds becomes the fact `guest_agent` of their machines."""

    def __init__(self, host: Host, machines: "Machines", tools: Tools) -> None:
        super().__init__(name="guests", daemon=True)
        self._host = host
        self._machines = machines
        self._tools = tools
        self._lock = threading.Lock()
        self._turns: dict[str, Turn] = {}
        self._had: dict[str, float] = {}  # when each had its last turn
        self._wake = threading.Event()

    def ask_soon(self, machine_id: str) -> None:
        """Something has happened to a machine: ask its guest soon."""
        if not sockets.exists(self._machines.homes.of(machine_id).agent_socket):
            return
        with self._lock:
            earliest = self._had.get(machine_id, 0.0) + SECONDS_BETWEEN_TURNS
            self._turns[machine_id] = Turn(max(time.monotonic() + SECONDS_TO_SETTLE, earliest))
        self._wake.set()

    def run(self) -> None:
        while not self._host.stopping.is_set():
            self._wake.wait(self._seconds_to_sleep())
            self._wake.clear()
            due = self._take_due()
            try:
                for machine_id, turn in due.items():
                    self._host.beside(partial(self._have_turn, machine_id, turn))
            except Exception:
                log.exception("guests were not asked")
                with self._lock:
                    self._turns = due | self._turns
                self._host.stopping.wait(1.0)

    def _seconds_to_sleep(self) -> float:
        with self._lock:
            next_due = min((turn.due for turn in self._turns.values()), default=float("inf"))
        return max(0.0, min(next_due - time.monotonic(), MAX_SECONDS_ASLEEP))

    def _take_due(self) -> dict[str, Turn]:
        now = time.monotonic()
        with self._lock:
            due = {machine_id: turn for machine_id, turn in self._turns.items() if turn.due <= now}
            self._turns = {machine_id: turn for machine_id, turn in self._turns.items() if machine_id not in due}
            recent = {machine_id: at for machine_id, at in self._had.items() if at > now - SECONDS_BETWEEN_TURNS}
            self._had = recent | dict.fromkeys(due, now)
        return due

    def _have_turn(self, machine_id: str, turn: Turn) -> None:
        """Ask a guest. One that did not answer has another turn, whatever the reason: it may be frozen."""
        tries = turn.tries
        try:
            if self.look(machine_id):
                return
        except (NoAnswer, Refused, OSError) as problem:
            log.info("no guest agent answers", machine=machine_id, problem=str(problem))
            tries += 1
        except Exception:
            log.exception("a guest was not asked", machine=machine_id)
            tries += 1
        seconds = SECONDS_BETWEEN_TRIES[min(tries, len(SECONDS_BETWEEN_TRIES) - 1)]
        with self._lock:
            self._turns.setdefault(machine_id, Turn(time.monotonic() + seconds, tries))
        self._wake.set()

    def look(self, machine_id: str) -> bool:
        """Ask a guest, if that can be done now. Raises NoAnswer, Refused or OSError: it has to be asked again."""
        was_frozen = freezing.is_noted(self._machines.homes.of(machine_id))
        try:
            with self._tools.lock(machine_id, wait=False):
                return self._look(machine_id)
        except BlockingIOError:
            return False
        finally:
            if was_frozen:
                self._host.notice(key(machine_id))  # a problem more, or one less

    def _look(self, machine_id: str) -> bool:
        """Whether there is nothing more to ask."""
        machine, ledger = self._machines.machine(machine_id), self._tools.ledger
        entry = ledger.get(machine.key)
        if entry is None or entry.seen == "gone" or machine.hypervisor(entry).find(machine.home) is None:
            return True
        with machine.hypervisor(entry).control(machine.home) as control:
            listens = control.guest_listens()
        was_frozen = freezing.is_noted(machine.home)
        if was_frozen and listens:
            freezing.thaw(machine.home)
        if entry.order is not None:
            return False
        known = entry.facts.get("guest_agent")
        if entry.seen == "running":  # what stands still cannot answer; when it goes on, its emulator says so
            found = (known or guest_agent.meet(machine.home)) if listens else None
            if found != known:
                others = {name: fact for name, fact in entry.facts.items() if name != "guest_agent"}
                ledger.saw(machine.key, entry.seen, others | ({"guest_agent": found} if found else {}))
                self._host.changed.set()
        if was_frozen and not listens:
            raise NoAnswer("the guest may be frozen, and its agent is gone")
        return True
