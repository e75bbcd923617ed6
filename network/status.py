"""Whether hosts have made true what is wanted of networks, in words. Tenants do not learn which hosts these are."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from cloud.hosts.hosted import BROKEN
from cloud.hosts.models import Host
from network.models import Network, NetworkOnHost, Port, Router
from network.models.hosted import OnHost

STATUSES = ("ready", "waiting", "error")


class Status(NamedTuple):
    """One of STATUSES, and why it is not ready."""

    status: str
    reason: str = ""


READY = Status("ready")
NO_HOST = Status("waiting", "No host of this cloud carries networks yet.")
NOT_YET = Status("waiting", "A host has not made it so yet.")
UNPLUGGED = Status("waiting", "Nothing is plugged in.")
NOT_CARRIED = Status("waiting", "The instance is on no host that carries networks.")
APART = Status(
    "error",
    "Its instances on different hosts do not reach each other, as no tunnels lead to one of these hosts. An admin of "
    "the cloud can mend that.",
)
LEADS_NOWHERE = Status("waiting", "It leads nowhere yet.")


def of_rows(rows: Iterable[OnHost]) -> Status:
    """Of what is on some hosts: ready when all of them have made it so."""
    wanted = [row for row in rows if row.wanted]
    broken = next((row for row in wanted if row.has_been_seen(BROKEN)), None)
    if broken is not None:
        return Status("error", broken.seen_problem or "A host cannot make it so.")
    return READY if all(row.is_true for row in wanted) else NOT_YET


def of_network(network: "Network | Router", *, carried: bool) -> Status:
    """Of a network or a router, with its `on_hosts` fetched. `carried`: whether any host has networks."""
    rows: list[OnHost] = list(network.on_hosts.all())
    if not rows:
        return READY if carried else NO_HOST
    seen = of_rows(rows)
    return APART if seen == READY and _is_apart(rows) else seen


def _is_apart(rows: Iterable[OnHost]) -> bool:
    """Whether a network is on several hosts, of which one has no end of tunnels."""
    ends = [row.vtep for row in rows if row.wanted and isinstance(row, NetworkOnHost)]
    return len(ends) > 1 and not all(ends)


def of_port(port: Port, *, carried: bool) -> Status:
    """Of a port, with its network's `on_hosts` fetched."""
    if port.holder_id is None:
        return UNPLUGGED
    if port.holder_type == "router":
        return of_network(port.network, carried=carried)
    if port.host_id is None:
        return NOT_CARRIED if carried else NO_HOST
    return of_rows(row for row in port.network.on_hosts.all() if row.host_id == port.host_id)


def of_way_in(ident: UUID, port: Port | None, routers: Iterable[OnHost], *, carried: bool) -> Status:
    """Of a floating IP or port forward that leads in to a port, given its project's routers on hosts."""
    if port is None:
        return LEADS_NOWHERE
    if (plugged := of_port(port, carried=carried)) != READY:
        return plugged
    here = [row for row in routers if row.host_id == port.host_id]
    if (routed := of_rows(here)) != READY:
        return routed
    # A router may be there without one of its parts: its host says which, and why.
    problems = [row.seen_facts.get("problems", {}).get(str(ident)) for row in here]
    return next((Status("error", problem) for problem in problems if problem), READY)


def any_carries() -> bool:
    """Whether the cloud has a host that can have networks."""
    return Host.objects.filter(capabilities__network__networks=True).exists()
