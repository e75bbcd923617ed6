"""How the networks of a project hang together: routers, networks, and the machines on them.

As a drawing, and as a tree for where a drawing is too wide. Each box says whether hosts have made it so.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cloud.tenancy.models import Project
from network.models import Network, Port, Router
from network.services.ports import ROUTER
from network.status import Status, any_carries, of_network, of_port

MAX_NETWORKS, MAX_MACHINES = 12, 6  # that are drawn; of each network
ROW, GAP, BOX, BOX_WIDTH = 46, 14, 36, 160  # pixels: of a machine, between networks, the size of a box
OUTSIDE_AT, ROUTERS_AT, NETWORKS_AT, MACHINES_AT = 45, 120, 350, 580  # where each column begins
RADIUS = 16  # of the world
WIDTH = MACHINES_AT + BOX_WIDTH + 2


@dataclass
class Node:
    """A box. `y` is its middle; `x` its left side. `status`: None of what is only a word."""

    name: str
    note: str
    ident: UUID | None
    x: int
    y: int
    kind: str  # as `links` calls its page; "": no page
    status: Status | None = None
    beside: list["Node"] = field(default_factory=list)  # to the right of it: a router's networks, a network's machines

    @property
    def in_words(self) -> str:
        state = f"({': '.join(filter(None, self.status))})" if self.status else ""
        return " ".join(filter(None, (self.kind, f"{self.name}:" if self.note else self.name, self.note, state)))

    @property
    def state_at(self) -> int:
        return self.x + BOX_WIDTH - 12

    @property
    def top(self) -> int:
        return self.y - BOX // 2

    @property
    def name_at(self) -> int:
        return self.y - 2 if self.note else self.y + 4

    @property
    def note_at(self) -> int:
        return self.y + 12


@dataclass
class Drawing:
    """Everything in pixels, ready to be written as SVG."""

    height: int = 0
    nodes: list[Node] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # paths
    outside: int | None = None  # the middle of the world, when something leads there
    left_out: int = 0  # networks that are not drawn
    alone: list[Node] = field(default_factory=list)  # networks that no router joins
    width: int = WIDTH
    box: int = BOX
    box_width: int = BOX_WIDTH

    @property
    def routers(self) -> list[Node]:
        return [node for node in self.nodes if node.kind == "router"]


def draw(project: Project) -> Drawing:
    """Networks are rows; what they join lies in the middle of what it joins."""
    own = Network.objects.filter(project=project).prefetch_related("subnets", "on_hosts")
    every, carried = list(own.order_by("created_at", "pk")), any_carries()
    drawing = Drawing(left_out=max(0, len(every) - MAX_NETWORKS))
    machines, joined = _plugged(project, carried=carried)
    at: dict[UUID, Node] = {}
    y = GAP
    for network in every[:MAX_NETWORKS]:
        there = _machines_of(network, machines)
        height = ROW * max(1, len(there))
        middle, status = y + height // 2, of_network(network, carried=carried)
        cidrs = ", ".join(subnet.cidr for subnet in network.subnets.all()) or "no subnet"
        at[network.pk] = drawn = Node(network.name, cidrs, network.pk, NETWORKS_AT, middle, "network", status)
        for number, (ident, name, note, is_so) in enumerate(there):
            kind, machine_y = "instance" if ident else "", y + ROW * number + ROW // 2
            drawn.beside.append(Node(name, note, ident, MACHINES_AT, machine_y, kind, is_so))
            drawing.lines.append(_line(NETWORKS_AT + BOX_WIDTH, middle, MACHINES_AT, machine_y))
        drawing.nodes += [drawn, *drawn.beside]
        y += height + GAP
    drawing.height = _draw_routers(drawing, project, joined, at, y, carried=carried)
    drawing.alone = [node for pk, node in at.items() if not any(pk in networks for networks in joined.values())]
    return drawing


def _plugged(project: Project, *, carried: bool) -> tuple[dict[UUID, list[Any]], dict[UUID, set[UUID]]]:
    """The machines of each network, and the networks of each router."""
    machines: dict[UUID, list[Any]] = defaultdict(list)
    joined: dict[UUID, set[UUID]] = defaultdict(set)
    held = Port.objects.filter(project=project, holder_id__isnull=False).select_related("network")
    for port in held.prefetch_related("addresses", "network__on_hosts").order_by("holder_name", "holder_slot"):
        assert port.holder_id is not None
        if port.holder_type == ROUTER:
            joined[port.holder_id].add(port.network_id)
        else:
            addresses = ", ".join(one.address for one in port.addresses.all())
            is_so = of_port(port, carried=carried)
            machines[port.network_id].append((port.holder_id, port.holder_name, addresses, is_so))
    return machines, joined


def _machines_of(network: Network, machines: dict[UUID, list[Any]]) -> list[Any]:
    there = machines[network.pk]
    if len(there) <= MAX_MACHINES:
        return there
    return [*there[: MAX_MACHINES - 1], (None, f"and {len(there) - MAX_MACHINES + 1} more", "", None)]


def _draw_routers(
    drawing: Drawing,
    project: Project,
    joined: dict[UUID, set[UUID]],
    at: dict[UUID, Node],
    height: int,
    *,
    carried: bool,
) -> int:
    """Each in the middle of its networks, below the one before it. Returns the height that all of it needs."""
    places = []
    for router in Router.objects.filter(project=project).prefetch_related("on_hosts").order_by("created_at", "pk"):
        reached = [node for network, node in at.items() if network in joined[router.pk]]
        places.append((sum(node.y for node in reached) // len(reached) if reached else height, reached, router))
    lowest = GAP // 2 - BOX // 2
    for wanted, reached, router in sorted(places, key=lambda place: place[0]):
        y = max(wanted, lowest + ROW)
        lowest = y
        way_out, status = "" if router.external else "no way out", of_network(router, carried=carried)
        drawing.nodes.append(Node(router.name, way_out, router.pk, ROUTERS_AT, y, "router", status, reached))
        drawing.lines += [_line(ROUTERS_AT + BOX_WIDTH, y, NETWORKS_AT, other.y) for other in reached]
        if router.external:
            drawing.outside = drawing.outside if drawing.outside is not None else y
            drawing.lines.append(_line(OUTSIDE_AT + RADIUS, drawing.outside, ROUTERS_AT, y))
    return max(height, lowest + ROW)


def _line(x: int, y: int, to_x: int, to_y: int) -> str:
    """A curve from the side of one box to the side of another."""
    middle = (x + to_x) // 2
    return f"M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}"
