"""What every project begins with: a network with a subnet, a way out, and a security group, all called `default`."""

from django.conf import settings

from cloud.events.services import Actor
from cloud.tenancy import new_projects
from cloud.tenancy.models import Project
from network import addressing, rules
from network.models import Network, Router, SecurityGroup
from network.services import networks, routers, security_groups, subnets

NAME = "default"
PREFIX = 24


def give(*, project: Project, actor: Actor) -> None:
    """Machines of a new project reach each other and the world; nobody reaches them.."""
    network = networks.create(project=project, actor=actor, name=NAME)
    cidr = addressing.nth_subnet(settings.DEFAULT_NETWORKS, PREFIX, project.pk.int)
    subnet = subnets.create(network=network, actor=actor, name=NAME, cidr=cidr)
    router = routers.create(project=project, actor=actor, name=NAME)
    routers.attach(router=router, actor=actor, subnet=subnet)
    group = security_groups.create(
        project=project,
        actor=actor,
        name=NAME,
        description="Outgoing traffic is open. Incoming traffic is open from members of this group.",
    )
    for rule in rules.MEMBERS_IN:
        security_groups.add_rule(group=group, actor=actor, rule={**rule, "remote_group": group})


def take(*, project: Project, actor: Actor) -> None:
    """Raises InUse while something uses them."""
    for router in Router.objects.filter(project=project, name=NAME):
        routers.delete(router=router, actor=actor, cascade=True)
    for network in Network.objects.filter(project=project, name=NAME):
        networks.delete(network=network, actor=actor, cascade=True)
    for group in SecurityGroup.objects.filter(project=project, name=NAME):
        security_groups.delete(group=group, actor=actor)


new_projects.register(give=give, take=take)
