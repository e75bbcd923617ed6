"""For every operation of the API about networks a request that succeeds: a part of tests/good_requests.py."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from cloud.tenancy import new_projects
from network.models import AddressPool, FloatingIP, Network, Port, PortForward, Subnet
from network.services import address_pools, floating_ips, networks, port_forwards, ports, routers, subnets
from tests import factories

_ranges = itertools.count(1)


def furnish(world: Any) -> None:
    """The project has what every project begins with."""
    if not world.project.networks.exists():
        new_projects.furnish(world.project, world.actor)


def network(world: Any) -> Network:
    furnish(world)
    return networks.create(project=world.project, actor=world.actor, name=factories.name("net"))


def subnet(world: Any) -> Subnet:
    return subnets.create(
        network=network(world), actor=world.actor, name=factories.name("subnet"), cidr=f"172.16.{next(_ranges)}.0/24"
    )


def port(world: Any) -> Port:
    """One on the project's first network, which has a way out."""
    furnish(world)
    return ports.create(network=world.project.networks.get(name="default"), actor=world.actor)


def group(world: Any) -> str:
    furnish(world)
    return "default"


def rule(world: Any) -> str:
    return str(world.project.security_groups.get(name=group(world)).rules.first().pk)


def pool(world: Any) -> AddressPool:
    return address_pools.create(actor=world.actor, name=factories.name("pool"), cidr=f"198.18.{next(_ranges)}.0/24")


def floating_ip(world: Any) -> FloatingIP:
    furnish(world)
    return floating_ips.create(project=world.project, actor=world.actor, pool=pool(world))


def associated(world: Any) -> FloatingIP:
    return floating_ips.associate(floating=floating_ip(world), actor=world.actor, port=port(world))


def port_forward(world: Any) -> PortForward:
    return port_forwards.create(
        port=port(world), actor=world.actor, target_port=22, floating_ip=floating_ip(world), listen_port=22
    )


def _router(world: Any) -> str:
    return routers.create(project=world.project, actor=world.actor, name=factories.name("router")).name


def _forward(world: Any) -> dict[str, Any]:
    listen = {"address": floating_ip(world).address, "port": 80}
    return {"listen": listen, "to": {"port": port(world).name, "target_port": 80}}


REFERENCES: Mapping[str, Callable[[Any], object]] = {
    "address-pools": pool,
    "floating-ips": floating_ip,
    "networks": network,
    "port-forwards": port_forward,
    "ports": port,
    "routers": _router,
    "security-groups": lambda world: world.project.security_groups.create(name=factories.name("group")).name,
    "security-groups/{group}/rules": rule,
    "subnets": subnet,
}
VERBS_NEED: Mapping[str, Callable[[Any], object]] = {
    "floating-ips/disassociate": associated,
    "routers/detach-subnet": group,  # the router is called the same
}
BODIES: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "POST address-pools": lambda world: {"name": "outside", "cidr": "203.0.113.0/24"},
    "PATCH address-pools": lambda world: {"labels": {"line": "a"}},
    "POST floating-ips": lambda world: {"pool": pool(world).name},
    "PATCH floating-ips": lambda world: {"labels": {"for": "web"}},
    "POST floating-ips/associate": lambda world: {"port": port(world).name},
    "POST networks": lambda world: {"name": "back"},
    "PATCH networks": lambda world: {"mtu": 9000},
    "POST port-forwards": _forward,
    "PATCH port-forwards": lambda world: {"name": "ssh"},
    "POST ports": lambda world: {"network": network(world).name},
    "PATCH ports": lambda world: {"security_groups": []},
    "POST routers": lambda world: {"name": "gate"},
    "PATCH routers": lambda world: {"snat": False},
    "POST routers/attach-subnet": lambda world: {"subnet": subnet(world).name},
    "POST routers/detach-subnet": lambda world: {"subnet": "default"},
    "POST security-groups": lambda world: {"name": "web"},
    "PATCH security-groups": lambda world: {"description": "what the world may ask"},
    "POST security-groups/{group}/rules": lambda world: {"direction": "ingress", "protocol": "tcp", "port_min": 22},
    "POST subnets": lambda world: {"name": "back", "network": network(world).name, "cidr": "172.20.0.0/24"},
    "PATCH subnets": lambda world: {"dhcp": False},
}
