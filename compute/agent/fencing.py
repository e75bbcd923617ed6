"""Shows in shared folders that this host lives, and ends emulators whose volume another host has taken over.

A thread of its own, as the file server may keep it waiting. See storage.agent.fences.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from agent.errors import NoAnswer, Refused
from agent.host import Host
from agent.kinds import Problem
from agent.processes import Process
from compute.agent.records import TYPE
from storage.agent.fences import SECONDS_BETWEEN_BEATS, Share

if TYPE_CHECKING:
    from compute.agent.kinds import Machines
    from compute.agent.machine import Machine

log = structlog.get_logger()

WHAT = "shared folder"  # the host's problems with one
ENDED = "was killed, as another host has taken over a volume of it, and so ended"


@dataclass(frozen=True)
class Use:
    """A tree that an emulator has open. `layer`: the one that it writes."""

    machine: "Machine"
    process: Process
    share: Share
    layer: str


class Fencing(threading.Thread):
    """One round after the other, for each shared folder."""

    def __init__(self, host: Host, machines: "Machines") -> None:
        super().__init__(name="fencing", daemon=True)
        self._host, self._machines = host, machines
        self._fences = machines.tools.layers.fences
        self._unwritten: set[tuple[str, str]] = set()  # pools and layers

    def run(self) -> None:
        while not self._host.stopping.wait(SECONDS_BETWEEN_BEATS):
            try:
                self.beat()
            except Exception:
                log.exception("shared folders were not looked after")

    def beat(self) -> None:
        """One round for each folder that answers. One in which something goes wrong is left without a beat."""
        for pool in self._fences.pools.found():
            try:
                self._write_out(pool)
                self._fences.beat(pool, lambda: [use.share for use in self._used()], self._end)
            except (Refused, NoAnswer, OSError) as problem:
                log.warning("no beat in a shared folder", pool=pool, problem=str(problem))

    def problems(self) -> list[Problem]:
        """Folders whose file server does not answer."""
        words = "its file server does not answer"
        return [{"what": WHAT, "problem": f"{name}: {words}"} for name, _ in self._fences.pools.silent()]

    def _used(self) -> Iterator[Use]:
        """What emulators have open, or may: as their specs want it, and as it was plugged in."""
        for entry in self._host.ledger.entries(TYPE):
            told = [*(entry.spec.get("volumes") or ()), *entry.facts.get("volumes", {}).values()]
            found = {(Share.of(volume), volume.get("active") or volume["chain"][-1]) for volume in told}
            shares = [(share, layer) for share, layer in found if share]
            machine = self._machines.machine(entry.id)
            process = machine.hypervisor(entry).find(machine.home) if shares else None
            if process:
                yield from (Use(machine, process, share, layer) for share, layer in shares)

    def _end(self, lost: Share) -> None:
        """Kill what has a tree open. The machine is not locked: who holds it may be waiting for that file server."""
        for use in [use for use in self._used() if (use.share.pool, use.share.tree) == (lost.pool, lost.tree)]:
            self._unwritten.add((lost.pool, use.layer))
            use.machine.kill(use.process)
            self._host.beside(lambda key=use.machine.key: self._host.notice(key, ENDED))  # type: ignore[misc]
        self._write_out(lost.pool)

    def _write_out(self, pool: str) -> None:
        """What killed emulators had written is still in the kernel, and would come to the file server late."""
        for each in [each for each in self._unwritten if each[0] == pool]:
            self._machines.tools.layers.sync(each[1], pool)
            self._unwritten.discard(each)
