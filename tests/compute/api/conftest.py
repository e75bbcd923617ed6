"""A member of the cloud's project, and what she sends."""

import pytest

from cloud.tenancy.models import Role
from tests import factories


@pytest.fixture
def member(cloud):
    return factories.member(cloud.project, Role.MEMBER, "mia")


@pytest.fixture
def mia(api, member):
    return api.as_(member)


@pytest.fixture
def path(cloud):
    return f"projects/{cloud.project.name}/instances"


@pytest.fixture
def body(cloud):
    return {"name": "web", "flavor": cloud.flavor.name, "image": cloud.image.name}


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
