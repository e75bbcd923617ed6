"""A project with what every project begins with, and short ways to add to it."""

import pytest

from cloud.events.services import Actor
from cloud.tenancy import new_projects
from network.models import Network, Port, Router, SecurityGroup, Subnet
from network.services import networks, ports, routers, subnets
from tests import factories

ALICE = Actor("alice")


@pytest.fixture
def tenant(db):
    """A project that has been furnished as `create_project` does."""
    project = factories.project()
    new_projects.furnish(project, ALICE)
    return project


@pytest.fixture
def default(tenant) -> Subnet:
    """The subnet `default`: its network, router and group have the same name."""
    return Subnet.objects.select_related("network__project").get(project=tenant, name="default")


@pytest.fixture
def router(default) -> Router:
    return Router.objects.get(project_id=default.project_id)


@pytest.fixture
def group(default) -> SecurityGroup:
    return SecurityGroup.objects.get(project_id=default.project_id)


@pytest.fixture
def make_network(tenant):
    def make(name: str = "", cidr: str = "10.9.0.0/24", **plan) -> Network:
        network = networks.create(project=tenant, actor=ALICE, name=name or factories.name("net"))
        if cidr:
            subnets.create(network=network, actor=ALICE, name=factories.name("subnet"), cidr=cidr, **plan)
        return network

    return make


@pytest.fixture
def make_port(default):
    def make(network: Network | None = None, **facts) -> Port:
        return ports.create(network=network or default.network, actor=ALICE, **facts)

    return make


@pytest.fixture
def attach():
    def do(router: Router, subnet: Subnet, **how) -> Router:
        return routers.attach(router=router, actor=ALICE, subnet=subnet, **how)

    return do
