"""Which networks and routers are on which hosts, and telling those hosts when something about them has changed.

A host needs the networks that have a port there, and everything that routers lead to from those: then it routes by
itself. No operation is opened for it: a change raises the generation of the rows and posts their orders, which last
until they are answered; a machine waits on its host for the rows of its ports; `reconcile` posts again what got lost.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from cloud.hosts import orders
from cloud.hosts.hosted import GONE, raise_generation
from cloud.hosts.models import Host
from cloud.hosts.resources import Stake
from cloud.operations.models import Operation
from cloud.tenancy.models import Project
from network.models import FloatingIP, NetworkOnHost, Port, RouterOnHost, SecurityGroupRule
from network.models.hosted import OnHost

NETWORK, ROUTER = "network", "router"  # as hosts call them
Placed = set[tuple[UUID, UUID]]  # (network or router, host)


def carries(host: Host | None) -> bool:
    """Whether a host can have networks, as it says itself."""
    return bool(host and host.capabilities.get("network", {}).get("networks"))


def awaits(host: Host | None) -> bool:
    """Whether machines on a host wait there for their networks, so that both may be ordered at once. Agents of older
    releases do not."""
    return bool(host and host.capabilities.get("network", {}).get("awaited"))


def vtep(host: Host | None) -> str:
    """Where tunnels to a host end, as it says itself; "" when it can have none, or does not say now."""
    return str(host.capabilities.get("network", {}).get("vtep") or "") if host else ""


def changed(
    project_id: UUID,
    *,
    networks: Iterable[UUID] = (),
    routers: Iterable[UUID] = (),
    rules_of: Iterable[UUID] = (),
    members_of: Iterable[UUID] = (),
    places: bool = False,
) -> None:
    """Something that hosts should make true has changed: order it from those that it concerns.

    `rules_of` and `members_of` are security groups whose rules or whose ports have changed. `places`: which networks
    are on which hosts may have changed as well.
    """
    # One at a time in a project: two that begin on a host at once would both make the row of their network there.
    Project.objects.select_for_update(no_key=True).get(pk=project_id)
    concerned = set(networks) | _networks_with([*rules_of, *_groups_that_name(set(members_of))])
    told = _settle(project_id) if places else set()
    _tell(NetworkOnHost.objects.filter(network__in=concerned), told)
    _tell(RouterOnHost.objects.filter(router__in=set(routers)), told)


def _groups_that_name(groups: Collection[UUID]) -> list[UUID]:
    """Groups with rules about the members of these."""
    if not groups:
        return []
    return list(SecurityGroupRule.objects.filter(remote_group__in=groups).values_list("group_id", flat=True))


def _networks_with(groups: Collection[UUID]) -> set[UUID]:
    """Networks that have ports in one of these groups on some host."""
    if not groups:
        return set()
    ports = Port.objects.filter(host__isnull=False, security_groups__in=groups)
    return set(ports.values_list("network_id", flat=True))


def _tell(rows: QuerySet[Any], told: set[UUID]) -> set[UUID]:
    """Order rows that are wanted anew, except for those that have been ordered just now. Returns which they are."""
    ordered = set()
    for row in rows.filter(wanted=True).select_for_update(of=("self",)).select_related("host").order_by("pk"):
        if row.pk not in told:
            raise_generation(row)
            order(row)
            ordered.add(row.pk)
    return ordered


def order(row: OnHost) -> None:
    """Order a row from its host, as it is wanted now."""
    assert row.host is not None
    kind = NETWORK if isinstance(row, NetworkOnHost) else ROUTER
    orders.post(row.host, kind, row.pk, "ensure_present" if row.wanted else "ensure_gone", row.generation)


def _settle(project_id: UUID) -> set[UUID]:
    """Make rows for what should be where, and have removed what should not. Returns the rows that were ordered."""
    networks, routers = wanted(project_id)
    there = NetworkOnHost.objects.filter(network__project=project_id)
    told = _place(NetworkOnHost, "network", there, networks)
    # The other hosts that have these networks are told who else does.
    peers = there.filter(network__in=list(there.filter(pk__in=told).values_list("network", flat=True)))
    told |= _tell(peers, told)
    return told | _place(RouterOnHost, "router", RouterOnHost.objects.filter(router__project=project_id), routers)


def wanted(project_id: UUID) -> tuple[Placed, Placed]:
    """Where a project's networks and routers should be: on each host, all that hang together with a port there."""
    legs = Port.objects.filter(project=project_id, holder_type=ROUTER, holder_id__isnull=False)
    near: dict[UUID, set[UUID]] = defaultdict(set)
    all_routers: set[UUID] = set()
    for leg in legs.only("holder_id", "network_id"):
        assert leg.holder_id is not None
        near[leg.holder_id].add(leg.network_id)
        near[leg.network_id].add(leg.holder_id)
        all_routers.add(leg.holder_id)
    plugged = Port.objects.filter(project=project_id, host__isnull=False)
    networks: Placed = set()
    routers: Placed = set()
    for host, start in plugged.values_list("host_id", "network_id").distinct():
        for found in _reached(start, near):
            (routers if found in all_routers else networks).add((found, host))
    return networks, routers


def _reached(start: UUID, near: dict[UUID, set[UUID]]) -> set[UUID]:
    found, ahead = {start}, [start]
    while ahead:
        for other in near.get(ahead.pop(), ()):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return found


def _place(model: type[OnHost], what: str, rows: QuerySet[Any], wanted: Placed) -> set[UUID]:
    """Make the rows be those that are wanted. Returns the ids of those that have changed."""
    told = set()
    there = rows.select_for_update(of=("self",)).select_related("host").order_by("pk")
    known = {(getattr(row, f"{what}_id"), row.host_id): row for row in there}
    for place, row in known.items():
        if row.wanted != (place in wanted):
            row.wanted = place in wanted
            row.save(update_fields=["wanted"])
            raise_generation(row)
            order(row)
            told.add(row.pk)
    new = sorted(wanted - set(known))
    hosts = Host.objects.in_bulk([host for _, host in new])
    for subject, host in new:
        facts = {"vtep": vtep(hosts[host])} if model is NetworkOnHost else {}
        row = model._default_manager.create(**{f"{what}_id": subject}, host=hosts[host], **facts)
        order(row)
        told.add(row.pk)
    return told


def forget(rows: QuerySet[Any]) -> None:
    """Its network or router is about to be deleted. The order to remove it outlives the row, until its host has."""
    for row in rows.select_for_update(of=("self",)).select_related("host").order_by("pk"):
        row.wanted = False
        raise_generation(row)
        order(row)
        row.delete()


def noticed(row: OnHost, before: str) -> None:
    """A report has been written: one that nobody wants any more goes when its host has removed it."""
    if not row.wanted and row.has_been_seen(GONE):
        row.delete()


def lose(row: OnHost, live: Operation | None) -> None:
    """Its host is lost: it goes when no port is there any more that needs it."""
    if not row.wanted:
        row.delete()


def at_stake(host: Host) -> Iterator[Stake]:
    """Floating IPs lead nowhere until what they lead to is started elsewhere."""
    leading = FloatingIP.objects.filter(target__port__host=host).select_related("project").order_by("name")
    for one in leading:
        yield Stake("floating_ip", one.pk, one.name, one.project.name, "interrupted")
