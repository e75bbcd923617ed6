"""What pages about networks show: one of everything, and more of it."""

from typing import Any
from uuid import uuid4

from cloud.events.services import Actor
from cloud.tenancy import new_projects
from cloud.tenancy.models import Project, Quota
from network.models import FloatingIP, Port, SecurityGroup
from network.services import (
    address_pools,
    floating_ips,
    networks,
    port_forwards,
    ports,
    routers,
    security_groups,
    subnets,
)
from network.services.ports import Holder
from tests import factories

ALICE = Actor("alice")


def one_of_each(project: Project) -> dict[str, Any]:
    """What every project begins with, and a machine on it that can be reached from outside: ids by their names in
    routes."""
    if not project.networks.exists():
        new_projects.furnish(project, ALICE)
    Quota.objects.filter(project=project).update(limits={})
    network = project.networks.get(name="default")
    pool = address_pools.create(actor=ALICE, name="outside", cidr="203.0.113.0/24")
    port = plugged(network, "web")
    floating = floating_ips.create(project=project, actor=ALICE, pool=pool, port=port)
    forward = forwarded(project, pool, port, 22)
    group = project.security_groups.get(name="default")
    rows = {
        "network": network, "subnet": network.subnets.get(), "port": port, "router": project.routers.get(),
        "group": group, "rule": group.rules.first(), "floating": floating, "forward": forward, "pool": pool,
    }  # fmt: skip
    return {name: row.pk for name, row in rows.items()}


def plugged(network, name: str) -> Port:
    """A port with a machine, that is on no host."""
    return ports.create(network=network, actor=ALICE, name=name, holder=Holder("instance", uuid4(), 0, name))


def forwarded(project: Project, pool, port: Port, to: int):
    listening = floating_ips.create(project=project, actor=ALICE, pool=pool)
    return port_forwards.create(port=port, actor=ALICE, target_port=to, floating_ip=listening, listen_port=to)


def more(project: Project, number: int) -> None:
    """One more of each, and one more on the network and in the group that are there."""
    default, pool = project.networks.get(name="default"), FloatingIP.objects.first().pool
    network = networks.create(project=project, actor=ALICE, name=factories.name("net"), labels={"n": str(number)})
    subnet = subnets.create(network=network, actor=ALICE, name=network.name, cidr=f"10.200.{number}.0/24")
    router = routers.create(project=project, actor=ALICE, name=factories.name("router"))
    routers.attach(router=router, actor=ALICE, subnet=subnet)
    group = security_groups.create(project=project, actor=ALICE, name=factories.name("group"))
    first = SecurityGroup.objects.get(project=project, name="default")
    for where in (group, first):
        rule = {"direction": "ingress", "protocol": 6, "port_min": 1000 + number, "remote_group": group}
        security_groups.add_rule(group=where, actor=ALICE, rule=rule)
    port = plugged(default, factories.name("vm"))
    floating_ips.create(project=project, actor=ALICE, pool=pool, port=port)
    forwarded(project, pool, port, 80)
    address_pools.create(actor=ALICE, name=factories.name("pool"), cidr=f"198.18.{number}.0/24")
