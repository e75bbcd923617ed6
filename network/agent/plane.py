"""Everything that this host has of networks and routers: applied, kept beside the kernel's own state, and told.

What was applied lies as a file beside its namespace, in the same tmpfs: it is there as long as the kernel's state is,
and a process that starts anew goes on from it. Methods enter namespaces with the calling thread: call them from one.
"""

import contextlib
import ipaddress
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog

from network.agent import counting, deltas, edge, examining, kept, messages, networks, nft, pools, routers, sending
from network.agent.guests import Guests
from network.agent.namespaces import Namespaces
from network.agent.netlink import Netlink
from network.agent.networks import Problem
from network.agent.outside import Outside
from network.agent.probe import Abilities
from network.agent.router_specs import RouterSpec
from network.agent.rules import REFLEXIVE
from network.agent.services import Services
from network.agent.specs import Address, NetworkSpec, Port, digest
from network.agent.world import World

log = structlog.get_logger()
TYPES = ("network", "router")
KEPT = "applied.json"


@dataclass(frozen=True)
class Applied:
    """A resource as it was applied. `state`: what this process calls it, for as long as it is like this."""

    type: str
    id: str
    generation: int
    raw: dict[str, Any]
    spec: NetworkSpec | RouterSpec
    state: str = ""

    @cached_property
    def hash(self) -> str:
        return digest(self.raw)


def _read(type: str, spec: dict[str, Any], before: Applied | None) -> NetworkSpec | RouterSpec:
    """Raises ValueError."""
    if type == "router":
        return RouterSpec.read(spec)
    known = (before.raw, before.spec) if before and isinstance(before.spec, NetworkSpec) else None
    return NetworkSpec.read(spec, known)


class Plane:
    def __init__(
        self, namespaces: Namespaces, abilities: Abilities, side: edge.Side, outside: Outside, services: Services
    ) -> None:
        self._namespaces = namespaces
        self._abilities = abilities
        self._pools = side.pools
        self._services = services
        self._rulesets = nft.Rulesets()
        self.world = World(namespaces, abilities, side, outside, self._rulesets)
        self._made: dict[str, networks.Made] = {}  # by id
        self._applied: dict[tuple[str, str], Applied] = {}
        self._looked_at = ("", "")
        self._states = map(f"{uuid.uuid4().hex}-{{}}".format, itertools.count())
        self._files = kept.Files()
        self._guests = Guests(namespaces.directory, services.metadata)
        self.quarantined: set[str] = set()

    def restore(self) -> None:
        """Go on after a restart of the process: apply again what was applied, which changes only what differs."""
        for name in self._namespaces.names():
            with contextlib.suppress(OSError, ValueError, KeyError):
                found = kept.read(self._namespaces.directory / name / KEPT)
                spec = _read(found["type"], found["spec"], None)
                applied = Applied(found["type"], found["id"], found["generation"], found["spec"], spec)
                self._applied[applied.type, applied.id] = applied
        for each in sorted(self._applied.values(), key=lambda each: each.type):  # networks before routers
            try:
                self._make(each)
            except Exception:  # whatever is wrong with one: the others are restored, and requests answered
                log.exception("a resource could not be restored", type=each.type, id=each.id)

    def apply(
        self, type: str, id: str, generation: int, spec: dict[str, Any], difference: deltas.Difference | None = None
    ) -> dict[str, str]:
        """Make true what a spec says; gives back which parts could not be, and why: a port of this host that is taken.

        `difference`: to the spec of before, where it is known. Raises Problem, ValueError, OSError, nft.Refused.
        """
        if type not in TYPES:
            raise Problem(f"this host knows no {type}, only networks and routers")
        if not self._abilities.usable:
            raise Problem("this host can have no networks: " + "; ".join(self._abilities.missing.values()))
        before = self._applied.get((type, id))
        read = _read(type, spec, before)
        if read.id != id:
            raise ValueError(f"the spec is of {read.id}, not of {id}")
        if before and before.generation > generation:
            raise Problem(f"generation {before.generation} is here already")
        if before and before.raw == spec:  # nothing has changed, so somebody doubts that it is true
            self._forget(f"{type}-{id}", id)
        new = Applied(type, id, generation, spec, read, next(self._states))
        self._applied[type, id] = new
        try:
            problems = self._make(new, before)
        except BaseException:
            self._forget(f"{type}-{id}", id)
            if before:
                self._applied[type, id] = before
            else:
                del self._applied[type, id]
            raise
        self._keep(new, difference)
        return problems

    def state(self, type: str, id: str) -> str:
        """What a resource's present state is called; "": it has no name yet."""
        applied = self._applied.get((type, id))
        return applied.state if applied else ""

    def change(
        self, type: str, id: str, generation: int, since: str, difference: deltas.Difference
    ) -> dict[str, str] | None:
        """The same by a difference to the spec of a state; None: the resource is not in that state. Raises as it."""
        before = self._applied.get((type, id))
        if before is None or before.state != since:
            return None
        try:
            spec = deltas.applied(before.raw, difference)
        except (LookupError, TypeError) as error:
            raise ValueError(f"the difference does not fit: {error!r}") from error
        return self.apply(type, id, generation, spec, difference)

    def remove(self, type: str, id: str) -> None:
        """Remove a resource with everything that belongs to it; nothing happens when it is not here."""
        applied = self._applied.pop((type, id), None)
        name = f"{type}-{id}"
        self._files.forget(self._kept(type, id))
        self._forget(name, id)
        if applied is None:
            if name in self._namespaces.names():
                self._namespaces.remove(name)
            return
        self.quarantined.discard(id)
        self._services.forget(id)
        if isinstance(applied.spec, RouterSpec):
            routers.remove(self._namespaces, applied.spec)
            self.keep_edge()
            touched = {leg.network for leg in applied.spec.legs}
            for spec in self._networks():
                if spec.network in touched:
                    self._make_network(spec)
        else:
            with self._namespaces.within(name), Netlink() as kernel:
                for link in kernel.links().values():
                    if link.index != 1:
                        with contextlib.suppress(OSError):
                            kernel.send(messages.remove_link(link.index))
            self._namespaces.remove(name)
            self.keep_edge()

    def plug(self, port: str, headers: bool) -> int:
        """The descriptor of a port's tap; the caller closes it. Raises Problem, OSError."""
        spec, found = self._port(port)
        if spec.id in self.quarantined:
            raise Problem(f"network {spec.network} is quarantined: nothing plugs into it")
        return networks.plug(self._namespaces, spec, found, headers)

    def introduce(self, port: str, pages: dict[str, str]) -> None:
        """Say what a port's guest may read as its metadata. It is kept like what was applied. Raises Problem."""
        spec, found = self._port(port)
        self._guests.introduce(spec, found.id, pages)

    def unplug(self, port: str) -> None:
        """Remove a port's tap and its guest's metadata; nothing happens when there is none."""
        with contextlib.suppress(Problem):
            spec, found = self._port(port)
            networks.unplug(self._namespaces, spec, found.device)
            self._guests.forget(spec, found.id)

    def inventory(self) -> dict[str, Any]:
        """What is here: resources with their generation and hash, plugged ports, and namespaces that nobody ordered."""
        known = {f"{type}-{id}" for type, id in self._applied}
        return {
            "resources": [
                {"type": each.type, "id": each.id, "generation": each.generation, "hash": each.hash}
                for each in self._applied.values()
            ],
            "plugged": sorted(self.counters()["ports"]),
            "strangers": [name for name in self._namespaces.names() if name not in known],
        }

    def counters(self) -> dict[str, Any]:
        """Packets and bytes of every plugged port, and what was dropped of its, by reason."""
        found: dict[str, Any] = {}
        for spec in self._networks():
            with self._namespaces.within(networks.namespace(spec)):
                found |= counting.of_ports(spec)
        return {"ports": found}

    def examine(self, wish: dict[str, Any]) -> examining.Examination:
        """Look at a port of this host, and be ready to ask its guest, and who else has the address outside that leads
        there; what came of what it sent `towards` another one. Raises Problem, ValueError, OSError."""
        spec, port = self._port(wish["port"])
        question = examining.question_for(spec, port, self._gateways(spec.network), wish)
        found = examining.begin(self._namespaces, spec, port, question, self._services.leases(spec.id))
        if outside := wish.get("outside"):
            found.rival = self.world.rival(ipaddress.ip_address(outside))
        if (towards := wish.get("towards")) and self._abilities.tracking != REFLEXIVE:
            with self._namespaces.within(networks.namespace(spec)):
                found.seen["tried"] = sending.tried(port, towards)
        return found

    def look_at_next(self) -> None:
        """Compare the next resource with what the kernel has, all of it, and mend what others have changed."""
        if self._applied:
            keys = sorted(self._applied)
            self._looked_at = next((key for key in keys if key > self._looked_at), keys[0])
            self._forget("-".join(self._looked_at), self._looked_at[1])
            self._make(self._applied[self._looked_at])

    def _forget(self, namespace: str, id: str) -> None:
        """What was made is looked up in the kernel next time."""
        self._rulesets.forget(namespace)
        self._made.pop(id, None)

    def _make(self, new: Applied, before: Applied | None = None) -> dict[str, str]:
        if isinstance(new.spec, NetworkSpec):
            made = self._made.get(new.spec.id)
            if made is None or made.spec.peers != new.spec.peers:
                self.keep_edge()  # before the overlay is there
            self._make_network(new.spec)
            if made is None or made.spec.mtu != new.spec.mtu:
                for router in self._routers():
                    if any(leg.network == new.spec.network for leg in router.legs):
                        self._make_router(router)
            return {}
        touched = {leg.network for leg in new.spec.legs}
        if before and isinstance(before.spec, RouterSpec):
            touched |= {leg.network for leg in before.spec.legs}
        for spec in self._networks():
            if spec.network in touched:
                self._make_network(spec)  # it learns of routers' devices before these come up
        problems = self._make_router(new.spec)
        absent = self.keep_edge()
        problems |= {
            each.id: f"PILEUS_POOLS names the device {device}, which the machine's host does not have"
            for each in new.spec.floating_ips
            if (device := self._pools.device(each.address)) in absent
        }
        forwards = pools.listened(new.spec, self._pools)
        return problems | self._services.forward(new.spec, forwards, routers.router_namespace(new.spec))

    def _make_router(self, spec: RouterSpec) -> dict[str, str]:
        ways, problems = pools.ways_in(spec, self._pools)
        routers.apply(self._namespaces, self._rulesets, spec, ways, self._by_network())
        return problems

    def _make_network(self, spec: NetworkSpec) -> None:
        vtep = self.world.vtep() if spec.peers else ""
        around = networks.Surroundings(
            self._abilities.tracking, self._legs(spec.network), ipaddress.ip_address(vtep) if vtep else None
        )
        made = self._made.pop(spec.id, None)
        self._made[spec.id] = networks.apply(self._namespaces, self._rulesets, spec, around, made)
        if made is None or made.spec.ports is not spec.ports:
            self._guests.keep(spec)
        self._services.answer(spec, networks.namespace(spec), self._gateways(spec.network))

    def _gateways(self, network: str) -> dict[Address, str]:
        """The addresses of routers in a network, and their MACs there."""
        return {
            address.ip: routers.leg_mac(router.router, network)
            for router in self._routers()
            for leg in router.legs
            if leg.network == network
            for address in leg.addresses
        }

    def _legs(self, network: str) -> dict[str, str]:
        return {
            routers.leg_device(router.router, network): routers.leg_mac(router.router, network)
            for router in self._routers()
            if any(leg.network == network for leg in router.legs)
        }

    def keep_edge(self) -> set[str]:
        """Keep the host's own network as everything here needs it; the devices of pools that the host does not have."""
        return self.world.keep(list(self._routers()), list(self._networks()))

    def _port(self, id: str) -> tuple[NetworkSpec, Port]:
        for spec in self._networks():
            for port in spec.local:
                if port.id == id:
                    return spec, port
        raise Problem(f"no network of this host has a port {id}")

    def _networks(self) -> Iterator[NetworkSpec]:
        return (each.spec for each in self._applied.values() if isinstance(each.spec, NetworkSpec))

    def _routers(self) -> Iterator[RouterSpec]:
        return (each.spec for each in self._applied.values() if isinstance(each.spec, RouterSpec))

    def _by_network(self) -> dict[str, NetworkSpec]:
        return {spec.network: spec for spec in self._networks()}

    def _kept(self, type: str, id: str) -> Path:
        return self._namespaces.directory / f"{type}-{id}" / KEPT

    def _keep(self, new: Applied, difference: deltas.Difference | None) -> None:
        facts = {"type": new.type, "id": new.id, "generation": new.generation, "spec": new.raw}
        self._files.keep(self._kept(new.type, new.id), facts, difference)
