"""Work that failed says who can fix it: operators see what is theirs on the health page, users what is theirs."""

import pytest

from agent.errors import YOU, Refused
from cloud.operations.models import FixBy, Operation
from cloud.operations.troubles import recent_failures, troubles
from cloud.tenancy.models import Role
from compute.models import Instance
from storage.models import Image
from tests import factories
from tests.storage.image_scenarios import fetch, some_host

pytestmark = pytest.mark.django_db(transaction=True)
IN_WORDS = {"you": "You can fix this yourself", "operator": "An admin of the cloud has to look", "nobody": "try again"}


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def vera(client, cloud):
    client.force_login(factories.member(cloud.project, Role.VIEWER, "vera"))
    return client


def shown():
    """What the health page tells of work and of instances."""
    return {trouble.title for trouble in troubles()} & {"Work that failed in the last day", "Instances in error"}


@pytest.mark.parametrize(
    ("said", "who"),
    [("you", "you"), ("operator", "operator"), ("nobody", "nobody"), ("", "operator"), ("me", "operator")],
)  # fmt: skip
def test_work_that_a_host_refused_is_shown_to_whoever_can_fix_it(cloud, vera, said, who):
    node = some_host(cloud)
    node.broken, node.final, node.fix_by = "This cannot become an image.", True, said
    fetch(cloud)
    cloud.settle()
    image = Image.objects.get(status="failed")
    assert Operation.objects.get(kind="storage.import").fix_by == who
    assert recent_failures().exists() == (who == "operator")
    page = vera.get(f"/projects/{cloud.project.name}/images/{image.pk}").content.decode()
    assert "This cannot become an image." in page
    assert IN_WORDS[who] in page


@pytest.mark.parametrize("how", [{"fix_by": YOU}, {}], ids=["theirs", "the operator's"])
def test_an_instance_in_error_is_an_alert_where_operators_can_do_something(cloud, vera, api, how, monkeypatch):
    def refuse(*args):
        raise Refused("no machine can be made of this", **how)

    monkeypatch.setattr(cloud.node.hypervisor, "check", refuse)
    instance = cloud.launch(name="web")
    cloud.settle()
    who = FixBy.YOU if how else FixBy.OPERATOR
    assert Instance.objects.get().failed_at
    assert shown() == (set() if how else {"Work that failed in the last day", "Instances in error"})
    assert IN_WORDS[who] in vera.get(f"/projects/{cloud.project.name}/instances/{instance.pk}").content.decode()
    [work] = api.as_(factories.member(cloud.project)).get(f"projects/{cloud.project.name}/operations").json()["items"]
    assert (work["outcome"], work["fix_by"]) == ("failed", who)
