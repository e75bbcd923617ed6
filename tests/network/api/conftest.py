"""The API as a member of a project that has what every project begins with."""

from uuid import uuid4

import pytest

from cloud.tenancy import new_projects
from cloud.tenancy.models import Role
from network.services import address_pools, ports
from network.services.ports import Holder
from tests import factories
from tests.network.conftest import ALICE


@pytest.fixture
def project(db):
    made = factories.project("demo")
    new_projects.furnish(made, ALICE)
    return made


@pytest.fixture
def mia(api, project, member):
    """A member of the project."""
    return api.as_(member)


@pytest.fixture
def stranger(api):
    """An admin of another project, with one of everything that can be referred to."""
    elsewhere = factories.project("elsewhere")
    new_projects.furnish(elsewhere, ALICE)
    return api.as_(factories.member(elsewhere, Role.ADMIN, "otto"))


@pytest.fixture
def pool(db):
    return address_pools.create(actor=ALICE, name="outside", cidr="203.0.113.0/24")


@pytest.fixture
def plug(project):
    """A port that an instance of this name is plugged into."""

    def make(name: str, network=None):
        holder = Holder("instance", uuid4(), 0, name)
        return ports.create(network=network or project.networks.get(name="default"), actor=ALICE, holder=holder)

    return make


def pointers(answer) -> list[str]:
    """Where the faults of a refusal are."""
    assert answer.status_code in (400, 409), answer.content
    return [fault["pointer"] for fault in answer.json()["errors"]]
