"""Networks on a fake node: kinds of the real agent that only note what they were told."""

import os
from dataclasses import replace
from typing import Any, ClassVar

from agent.entries import Entry
from agent.errors import Refused
from agent.kinds import Kind, Sight
from agent.work import Work
from tests.fakes import FakeNode


class FakeNetworks(Kind):
    """`specs`: what was told last, by id; those that are gone are not there. `broken`: why nothing can be made;
    `problems`: why parts cannot, by their ids. `said`: what the host says of its networks."""

    verbs: ClassVar[dict[str, str]] = {"ensure_present": "present", "ensure_gone": "gone"}

    def __init__(self, of_type: str) -> None:
        self.type = of_type  # type: ignore[misc]
        self.specs: dict[str, dict[str, Any]] = {}
        self.broken = ""
        self.problems: dict[str, str] = {}
        self.said: dict[str, Any] = {"networks": True, "awaited": True, "vtep": "192.0.2.7"}

    def obey(self, verb: str, entry: Entry, work: Work) -> Sight:
        if verb == "ensure_gone":
            self.specs.pop(entry.id, None)
            return "gone", {}
        if self.broken:
            raise Refused(self.broken)
        self.specs[entry.id] = entry.spec
        return "present", {"problems": self.problems}

    def capabilities(self) -> dict[str, Any]:
        return {"network": self.said} if self.type == "network" else {}


class FakePlugs:
    """The network process as machines see it: a descriptor of nothing for each port. `ports`: what they counted."""

    def __init__(self) -> None:
        self.ports: dict[str, dict[str, Any]] = {}

    def plug(self, port: str, headers: bool) -> int:
        return os.open(os.devnull, os.O_RDWR)

    def introduce(self, port: str, pages: dict[str, str]) -> None: ...

    def unplug(self, port: str) -> None: ...

    def counters(self) -> dict[str, Any]:
        return {"ports": self.ports}


def give_networks(node: FakeNode) -> tuple[FakeNetworks, FakeNetworks]:
    """From now on the node carries networks: its networks and routers."""
    kinds = FakeNetworks("network"), FakeNetworks("router")
    node.machines.tools = replace(node.machines.tools, plugs=FakePlugs())
    node.tools.add(*kinds)
    node.heartbeat()
    return kinds
