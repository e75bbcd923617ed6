"""Orders: claimed from the control plane, obeyed beside each other, answered by a report.

Whatever its kind, an order is obeyed under the resource's lock, after it was written to the ledger, by looking at the
present state and doing what is missing. So obeying twice does no harm, and if a worker is killed at any point the next
one finishes.
"""

import threading
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from agent import faults, system
from agent.entries import Entry, Key, key_of
from agent.errors import Abandoned, NoAnswer, NotWritten, Refused, Stale, told
from agent.kinds import Sight, Tools
from agent.work import Work

log = structlog.get_logger()

MAX_CLAIMED_AT_ONCE = 4
MAX_IN_HAND = 32
MAX_SLOW_IN_HAND = 256  # most of them wait, for their turn or for what another order makes

Spawn = Callable[[Callable[[], None]], None]

faults.declare(
    "orders.after_claim", "obey.before_ledger", "obey.after_ledger", "obey.before_report", "revive.after_start"
)


def obey(tools: Tools, order: dict[str, Any], work: Work) -> None:
    """Obey an order, or refuse it, and owe the report about it. Raises Abandoned."""
    key, verb = key_of(order), order["verb"]
    kind = tools.kinds.get(key.type)
    wanted = kind.verbs.get(verb, "unknown") if kind else "unknown"
    with tools.lock(key.id):
        work.check()
        faults.reach("obey.before_ledger")
        try:
            entry = tools.ledger.accept(order, wanted)
        except Stale:
            tools.ledger.refuse(order)
            return
        faults.reach("obey.after_ledger")
        if kind is None:
            sight = _not_known(f"resources of the type “{key.type}”")
        elif verb not in kind.verbs:
            sight = _not_known(f"the order “{verb}” for resources of the type “{key.type}”")
        else:
            known = kind
            sight = carefully(key, verb, lambda: known.obey(verb, entry, work))
        faults.reach("obey.before_report")
        try:
            tools.ledger.saw(key, *sight, answers=order)
        except NotWritten as problem:
            log.error("an answer could not be written down", type=key.type, id=key.id, problem=str(problem))
            tools.unwritten.keep(order, sight, is_in_hand=True)


def carefully(key: Key, verb: str, act: Callable[[], Sight]) -> Sight:
    """Run a verb; whatever goes wrong becomes what is seen, with its reason. Raises Abandoned."""
    try:
        return act()
    except Abandoned:
        raise
    except (Refused, NoAnswer) as problem:
        return "broken", told(problem)
    except OSError as problem:
        return "broken", told(problem, f"the host failed: {problem}")
    except Exception as problem:
        log.exception("unexpected failure", type=key.type, id=key.id, verb=verb)
        return "broken", told(problem, f"unexpected failure: {type(problem).__name__}: {problem}")


def revive(tools: Tools, key: Key, work: Work) -> None:
    """Go on with a resource that was interrupted with its host, by what the ledger says. Raises Abandoned."""
    kind = tools.kinds[key.type]
    with tools.lock(key.id):
        entry = tools.ledger.get(key)
        if entry and entry.order is None and kind.is_interrupted(entry):
            sight = carefully(key, "revive", lambda: kind.revive(entry, work))
            faults.reach("revive.after_start")
            kind.stand_down(entry)
            tools.ledger.saw(key, *sight)


def _not_known(what: str) -> Sight:
    return "broken", {"problem": f"the agent of this host, version {system.VERSION}, does not know {what}"}


class Orders:
    """The orders in hand, at most one for each resource. `spawn` runs something beside what is going on."""

    def __init__(self, tools: Tools, spawn: Spawn, done: Callable[[], None]) -> None:
        self._tools = tools
        self._ledger = tools.ledger
        self._control_plane = tools.control_plane
        self._spawn = spawn
        self._done = done
        self._incarnation = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._in_hand: dict[Key, Work] = {}
        # Begun by an earlier run of the worker. Until it is known whether they still hold, their resources are not
        # looked at: a half-started one would be reported as what it happens to be, and pass for the order's answer.
        self._left_over = {entry.key for entry in self._ledger.in_hand()}

    def __contains__(self, key: Key) -> bool:
        return key in self._in_hand

    def __len__(self) -> int:
        return len(self._in_hand)

    def claim(self) -> int:
        """Claim orders and obey them; how many were claimed. Raises Unreachable."""
        claimed = 0
        while (room := min(MAX_CLAIMED_AT_ONCE, self._room())) > 0:
            orders = self._control_plane.claim(room, self._incarnation)
            faults.reach("orders.after_claim")
            for order in orders:
                self.take(order)
            claimed += len(orders)
            if len(orders) < room:
                break
        self._resume_left_over()
        return claimed

    def _room(self) -> int:
        """How many more orders may be in hand. Those that are slow are counted by themselves: so those that wait never
        keep out the order that they wait for."""
        with self._lock:
            slow = sum(map(self._is_slow, self._in_hand.items()))
            return min(MAX_IN_HAND - (len(self._in_hand) - slow), MAX_SLOW_IN_HAND - slow)

    def _is_slow(self, in_hand: tuple[Key, Work]) -> bool:
        key, work = in_hand
        kind = self._tools.kinds.get(key.type)
        return work.is_waiting or (kind is not None and kind.is_slow)

    def take(self, order: dict[str, Any]) -> None:
        """Begin to obey an order. A newer one takes over from the one in hand; the same one again changes nothing."""
        key = key_of(order)
        with self._lock:
            present = self._in_hand.get(key)
            if present and _same(present.order, order):
                return
            if present:
                present.abandon()
            work = self._in_hand[key] = Work(order)
        self._run(key, work, lambda: obey(self._tools, order, work))

    def revive(self, entry: Entry) -> None:
        """Begin to resume an interrupted resource."""
        key = entry.key
        with self._lock:
            work = self._in_hand[key] = Work()
        self._run(key, work, lambda: revive(self._tools, key, work))

    def renew(self) -> None:
        """Keep the orders in hand ours; abandon those that are not any more. Raises Unreachable."""
        with self._lock:
            works = list(self._in_hand.items())
        for key, work in works:
            if work.order.get("id") and not self._control_plane.renew(work.order):
                work.abandon()
                self._ledger.dropped(key, work.order["id"])

    def abandon(self) -> None:
        """Leave all work in hand for the next worker."""
        with self._lock:
            for work in self._in_hand.values():
                work.abandon()

    def _run(self, key: Key, work: Work, act: Callable[[], None]) -> None:
        def run() -> None:
            try:
                act()
            except Abandoned:
                log.info("abandoned", type=key.type, id=key.id, verb=work.order.get("verb"))
            except OSError as problem:  # it could be neither locked nor written down: nothing was done
                log.error("an order was not obeyed", type=key.type, id=key.id, problem=str(problem))
                if work.order:
                    words = told(problem, f"the host failed: {problem}")
                    self._tools.unwritten.keep(work.order, ("broken", words))
            except Exception:
                log.exception("an order was not obeyed", type=key.type, id=key.id, verb=work.order.get("verb"))
            finally:
                with self._lock:
                    if self._in_hand.get(key) is work:
                        del self._in_hand[key]
                self._done()

        self._spawn(run)

    def _resume_left_over(self) -> None:
        """Continue orders that an earlier run began and that are still ours and not claimed again."""
        for key in sorted(self._left_over):
            entry = self._ledger.get(key)
            if entry and entry.order and key not in self:
                if self._control_plane.renew(entry.order):
                    self.take(entry.order)
                else:
                    self._ledger.dropped(key, entry.order["id"])
            self._left_over.discard(key)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("id", "generation", "verb"))
