"""Networks: isolated segments."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from cloud.events.services import Actor, record
from cloud.problems import explain_constraint
from cloud.tenancy import quota
from cloud.tenancy.models import Project
from network import allocation, hosting
from network.models import Network, Port
from network.services import ports, subnets
from network.services.changes import change
from network.services.uses import refuse_if_used, use, user_of

explain_constraint("network_mtu_is_possible", "An MTU is between 1280 and 65000 bytes.", pointer="/mtu")


def create(
    *, project: Project, actor: Actor, name: str, labels: dict[str, str] | None = None, mtu: int | None = None
) -> Network:
    """A network without subnets: nothing on it has an address yet. Raises OverQuota."""
    quota.require(project, networks=1)
    network = Network.objects.create(
        project=project, name=name, labels=labels or {}, mtu=mtu or settings.NETWORK_MTU, vni=allocation.next_vni()
    )
    record("network.network.create", network, actor=actor, after={"name": name, "mtu": network.mtu})
    return network


def update(*, network: Network, actor: Actor, changes: Mapping[str, Any]) -> Network:
    """Change a network's name, labels or MTU. Machines learn a new MTU with their next lease."""
    network, before = change(network, changes)
    record("network.network.update", network, actor=actor, before=before, after=changes)
    if changes.keys() & {"name", "mtu"}:
        hosting.changed(network.project_id, networks=[network.pk])
    return network


def delete(*, network: Network, actor: Actor, cascade: bool = False) -> None:
    """Remove a network that is empty; with `cascade` also what is on it, unless a machine is. Raises InUse."""
    quota.lock(network.project_id)
    plugged = list(Port.objects.filter(network=network).order_by("name"))
    machines = [user_of(port) for port in plugged if ports.is_held_from_above(port)]
    if cascade:
        refuse_if_used(network, machines, hint="Delete or detach these first; they are not deleted with a network.")
        for port in plugged:
            ports.remove(port, actor)
    else:
        uses = [use("subnet", subnet) for subnet in network.subnets.order_by("name")]
        refuse_if_used(network, [*map(user_of, plugged), *uses], hint="Delete these first, or use cascade.")
    for subnet in network.subnets.order_by("name"):
        subnets.remove(subnet, actor)
    record("network.network.delete", network, actor=actor, before={"name": network.name})
    hosting.forget(network.on_hosts.all())
    network.delete()
