"""One node: claims its orders, obeys them, reports what it sees. Everything here may be called at any time, by anybody,
again: threads and clocks are `worker.py`'s.
"""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from agent import faults, jail, system
from agent.control_plane import OUTDATED, ControlPlane
from agent.errors import Abandoned, NoAnswer, Refused
from agent.ledger import Entry, Ledger
from agent.paths import Paths
from agent.work import Work
from compute.agent import upkeep
from compute.agent.hypervisors.base import Hypervisor
from compute.agent.machine import Machine
from compute.agent.preparation import Tools
from storage.agent.image_cache import ImageCache

log = structlog.get_logger()

CLAIMED_AT_ONCE = 4
MOST_IN_HAND = 32
SECONDS_WITHOUT_ANSWER = 60.0
QUARANTINED = "quarantined"

Spawn = Callable[[Callable[[], None]], None]


class Node:
    """This host. `spawn` runs something beside what is going on: a thread in the worker, at once in tests."""

    def __init__(
        self,
        paths: Paths,
        ledger: Ledger,
        control_plane: ControlPlane,
        hypervisors: dict[str, Hypervisor],
        *,
        confinement: jail.Jail | None = None,
        spawn: Spawn | None = None,
    ) -> None:
        self.paths = paths
        self.ledger = ledger
        self.control_plane = control_plane
        self.hypervisors = hypervisors
        self.jail = confinement or jail.Jail()
        images = ImageCache(paths, ledger, control_plane)
        self.tools = Tools(paths, ledger, images, hypervisors, self.jail)
        self.changed = threading.Event()  # something was seen that the control plane should hear of now
        self.stopping = threading.Event()
        self._spawn = spawn or (lambda task: task())
        self._room = system.Room(paths.home, paths.machines)
        self._in_hand: dict[str, Work] = {}
        self._incarnation = uuid.uuid4().hex
        # Begun by an earlier run of the worker. Until it is known whether they still hold, their machines are not
        # looked at: a half-started one would be reported as what it happens to be, and pass for the order's answer.
        self._left_over = {entry.id for entry in ledger.in_hand()}
        self._unseen: dict[str, str] = {}  # machines that could not be looked at, and how their emulators ended
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def machine(self, machine_id: str) -> Machine:
        return Machine(machine_id, self.tools)

    def tidy(self) -> None:
        """Let go of what is kept for a while only."""
        self.ledger.forget_tombstones()
        self.tools.images.let_go()

    # Orders

    def look(self) -> int:
        """Claim orders and obey them; how many were claimed. Raises Unreachable."""
        claimed = 0
        while room := min(CLAIMED_AT_ONCE, MOST_IN_HAND - len(self._in_hand)):
            orders = self.control_plane.claim(room, self._incarnation)
            faults.reach("node.after_claim")
            for order in orders:
                self.take(order)
            claimed += len(orders)
            if len(orders) < room:
                break
        self._resume_left_over()
        return claimed

    def take(self, order: dict[str, Any]) -> None:
        """Begin to obey an order. A newer one takes over from the one in hand; the same one again changes nothing."""
        if order["resource"]["type"] != "instance":
            log.warning("an order for something that this agent does not know", type=order["resource"]["type"])
            return
        machine_id = order["resource"]["id"]
        with self._lock:
            present = self._in_hand.get(machine_id)
            if present and _same(present.order, order):
                return
            if present:
                present.abandon()
            work = self._in_hand[machine_id] = Work(order)
        self._spawn(lambda: self._obey(machine_id, work))

    def _obey(self, machine_id: str, work: Work) -> None:
        order = work.order
        try:
            self.machine(machine_id).obey(order, work)
        except Abandoned:
            log.info("abandoned", machine=machine_id, verb=order["verb"], generation=order["generation"])
        except Exception:
            log.exception("an order was not obeyed", machine=machine_id, verb=order["verb"])
        finally:
            with self._lock:
                if self._in_hand.get(machine_id) is work:
                    del self._in_hand[machine_id]
            self.changed.set()

    def _resume_left_over(self) -> None:
        """Go on with what an earlier run began and nobody has claimed again, where it is still ours."""
        for machine_id in sorted(self._left_over):
            entry = self.ledger.get(machine_id)
            if entry and entry.order and machine_id not in self._in_hand:
                if self.control_plane.renew(entry.order):
                    self.take(entry.order)
                else:
                    self.ledger.dropped(machine_id, entry.order["id"])
            self._left_over.discard(machine_id)

    def renew_leases(self) -> None:
        """Keep the orders in hand ours; abandon those that are not any more. Raises Unreachable."""
        with self._lock:
            works = list(self._in_hand.items())
        for machine_id, work in works:
            if work.order.get("id") and not self.control_plane.renew(work.order):
                work.abandon()
                self.ledger.dropped(machine_id, work.order["id"])

    def stop(self) -> None:
        """The worker goes down: leave the work in hand for the next one."""
        self.stopping.set()
        self.changed.set()
        with self._lock:
            for work in self._in_hand.values():
                work.abandon()

    def beside(self, task: Callable[[], None]) -> None:
        """Run something beside what is going on."""
        self._spawn(task)

    def is_idle(self) -> bool:
        return not self._in_hand

    # What is seen

    def send_reports(self) -> None:
        """Send every report that is owed. Raises Unreachable: then it is owed still."""
        for entry in self.ledger.unanswered():
            report = entry.report
            if report is None:
                continue
            outcome = self.control_plane.report(report)
            faults.reach("node.after_report")
            self.ledger.acknowledged(entry.id, report["sequence"])
            if outcome == OUTDATED:
                log.info("a report was outdated", machine=entry.id, seen=report["seen"], of=report["generation"])
                self.ledger.interrupt(entry.id, interrupted=False)

    def notice(self, machine_id: str, ended: str = "") -> None:
        """Look at a machine to which something may have happened; again soon, when it cannot be seen now."""
        ended = self._unseen.pop(machine_id, "") or ended
        try:
            if upkeep.look(self.machine(machine_id), ended):
                self.changed.set()
        except BlockingIOError:
            self._unseen[machine_id] = ended
        except (NoAnswer, Refused) as problem:
            log.warning("cannot see a machine", machine=machine_id, problem=str(problem))
            self._unseen[machine_id] = ended

    def notice_all(self, *, thoroughly: bool) -> None:
        """Look at all machines; unless `thoroughly`, not at those that run and would have said that something is up."""
        for entry in self.ledger.entries():
            is_fine = entry.seen == "running" and entry.process and entry.process.alive and entry.id not in self._unseen
            if thoroughly or not is_fine:
                self.notice(entry.id)
        if thoroughly:
            for machine_id in self.ledger.dead():
                upkeep.clear(self.machine(machine_id))

    def revive(self) -> None:
        """Start again what was interrupted with this host: once the control plane has taken the report of it, or has
        not answered for a minute and the machine depends on nothing but this host."""
        for entry in self.ledger.entries():
            if not entry.interrupted_at or entry.wanted != "running" or entry.id in self._in_hand:
                continue
            alone = time.monotonic() - self._began > SECONDS_WITHOUT_ANSWER and _is_local(entry)
            if entry.report is None or alone:
                self._begin_revival(entry.id)

    def _begin_revival(self, machine_id: str) -> None:
        with self._lock:
            work = self._in_hand[machine_id] = Work()

        def run() -> None:
            try:
                upkeep.revive(self.machine(machine_id), work)
            except Abandoned:
                pass
            finally:
                with self._lock:
                    if self._in_hand.get(machine_id) is work:
                        del self._in_hand[machine_id]
                self.changed.set()

        self._spawn(run)

    # The heartbeat

    def capabilities(self) -> dict[str, Any]:
        kinds = {name: hypervisor.probe() for name, hypervisor in self.hypervisors.items()}
        found = {name: kind for name, kind in kinds.items() if kind}
        return {
            "architectures": sorted({name for kind in found.values() for name in kind["architectures"]}),
            "hypervisors": found,
            "jail": self.jail.describe(),
            "kernel": system.kernel(),
            "cpu_model": system.cpu_model(),
        }

    def capacity(self) -> dict[str, Any]:
        return self._room.capacity()

    def inventory(self) -> list[dict[str, Any]]:
        """Everything on this host that is a resource, owned or not."""
        return [
            {
                "type": "instance",
                "id": entry.id,
                "generation": entry.generation,
                "sequence": entry.sequence,
                "seen": QUARANTINED if entry.quarantined else entry.seen,
            }
            for entry in self.ledger.entries()
        ]

    def heartbeat(self) -> None:
        """Say that this host lives, and what is on it; quarantine what nobody owns. Raises Unreachable."""
        inventory = self.inventory()
        body = {
            "boot_id": system.boot_id(),
            "agent_version": system.VERSION,
            "capacity": self.capacity(),
            "capabilities": self.capabilities(),
            "inventory": inventory,
        }
        answer = self.control_plane.heartbeat(body)
        unowned = {item["id"] for item in answer.get("unowned", []) if item["type"] == "instance"}
        said = {item["id"] for item in inventory}
        for entry in self.ledger.entries():
            try:
                if entry.id in unowned and not entry.quarantined:
                    log.warning("quarantined: nobody owns it", machine=entry.id)
                    upkeep.quarantine(self.machine(entry.id))
                elif entry.quarantined and entry.id in said - unowned:
                    upkeep.release(self.machine(entry.id))
            except BlockingIOError:  # an order is being obeyed; the next heartbeat asks again
                continue
            except (NoAnswer, Refused) as problem:
                log.warning("cannot quarantine", machine=entry.id, problem=str(problem))

    def quarantine_strangers(self) -> None:
        """Take machines into the ledger that are on disk but not in it, after the ledger was lost say: paused, unowned
        until the control plane says otherwise."""
        for directory in self.paths.machines.iterdir():
            try:
                machine = self.machine(directory.name)
            except ValueError:
                continue
            if self.ledger.get(machine.id) is None:
                log.warning("quarantined: it is in no ledger", machine=machine.id)
                disks = [path.stat().st_uid for path in directory.glob("disk*")]
                self.ledger.take_in_stranger(machine.id, uid=max(disks, default=None) or None)
                upkeep.quarantine(machine)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("id", "generation", "verb"))


def _is_local(entry: Entry) -> bool:
    """Whether all disks of a machine are on this host."""
    return all(volume.get("local") for volume in entry.spec.get("volumes") or [])
