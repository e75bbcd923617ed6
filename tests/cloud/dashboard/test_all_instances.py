"""The instances of all projects: the API's list and the admins' page."""

import re

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from cloud.events.services import Actor
from cloud.operations.models import Operation
from cloud.tenancy.models import Project
from compute import services
from compute.models import Instance
from tests import factories

pytestmark = pytest.mark.django_db
PAGE = "/cloud/instances"
DELETING = ("compute.discard", "compute.delete")  # to the trash; or at once, as it was nowhere yet


@pytest.fixture
def shop(world) -> Project:
    """Another project. Both have an instance `web`: that of `demo` runs on node1, those of `shop` wait."""
    shop = factories.project("shop")
    with transaction.atomic():
        for name in ("web", "db"):
            services.launch(project=shop, actor=Actor("sho"), name=name, flavor=world.flavor, image=world.image)
    return shop


@pytest.fixture
def root(page_of, cloud_admin):
    return page_of(cloud_admin)


def found(answer) -> set[tuple[str, str]]:
    return {(item["project"]["name"], item["name"]) for item in answer.json()["items"]}


def shown(answer) -> list[tuple[str, str]]:
    """Project and instance of each row of the page."""
    return re.findall(r'<th scope="row"><a href="/projects/([\w-]+)/instances/[^"]+">([^<]+)', answer.content.decode())


def test_admins_list_the_instances_of_all_projects(api, world, shop, cloud_admin):
    admin = api.as_(cloud_admin)
    assert found(admin.get("instances")) == {("demo", "web"), ("shop", "web"), ("shop", "db")}
    assert found(admin.get("instances?project=shop")) == {("shop", "web"), ("shop", "db")}
    on_host = admin.get("instances?host=node1&status=running")
    assert found(on_host) == {("demo", "web")}
    assert on_host.json()["items"][0]["host"]["name"] == "node1"
    assert found(admin.get("instances?name=db&limit=1")) == {("shop", "db")}


def test_a_page_of_them_costs_the_same_for_one_as_for_many(api, shop, cloud_admin):
    admin = api.as_(cloud_admin)
    counts = []
    for limit in (1, 3):
        with CaptureQueriesContext(connection) as queries:
            assert len(admin.get(f"instances?limit={limit}").json()["items"]) == limit
        counts.append(len([query for query in queries if "compute_instance" in query["sql"]]))
    assert counts == [1, 1]


def test_tenants_and_tokens_for_one_project_list_none_of_others(api, shop, cloud_admin, member):
    assert api.as_(member).get("instances").status_code == 403
    narrow = factories.token(cloud_admin, project=shop)
    assert api.as_(narrow).get("instances").status_code == 403


def test_the_page_names_the_project_of_each_and_leads_there(root, world, shop):
    page = root.get(PAGE, {"sort": "project"})
    assert shown(page) == [("demo", "web"), ("shop", "db"), ("shop", "web")]
    web = Instance.objects.get(project=shop, name="web")
    assert f'href="/projects/shop/instances/{web.pk}/console"' in page.content.decode()
    assert shown(root.get(PAGE, {"project": "shop", "q": "we"})) == [("shop", "web")]
    assert shown(root.get(PAGE, {"status": "running"})) == [("demo", "web")]


def test_the_page_of_a_host_leads_to_its_instances(root, world, shop):
    there = f"{PAGE}?host=node1"
    assert f'href="{there}"' in root.get(f"/cloud/hosts/{world.host.pk}").content.decode()
    assert ("demo", "web") in shown(root.get(there))
    assert shown(root.get(f"{PAGE}?host=node9")) == []


def test_a_verb_of_a_row_is_done_and_leads_back_to_the_list(root, world, shop):
    there = f"/projects/demo/instances/{world.instance.pk}/stop"
    assert f'href="{there}"' in root.get(PAGE).content.decode()
    answer = root.post(there, {"to": f"{PAGE}?q=web"})
    assert (answer.status_code, answer["Location"]) == (303, f"{PAGE}?q=web")
    assert Operation.objects.filter(subject_id=world.instance.pk, finished_at=None, kind="compute.stop").exists()


def test_a_verb_for_many_is_done_in_each_of_their_projects(root, world, shop):
    picked = [world.instance.pk, Instance.objects.get(project=shop, name="db").pk]
    asked = root.get(f"{PAGE}/selected", {"verb": "delete", "item": picked}).content.decode()
    for project in ("demo", "shop"):
        assert f"/api/v1/projects/{project}/instance-actions" in asked
    answer = root.post(f"{PAGE}/selected", {"verb": "delete", "item": picked, "to": f"{PAGE}?q=b"})
    assert (answer.status_code, answer["Location"]) == (303, f"{PAGE}?q=b")
    begun = Operation.objects.filter(subject_id__in=picked, finished_at=None, kind__in=DELETING)
    assert {operation.project_id for operation in begun} == {world.project.pk, shop.pk}
    told = root.get(PAGE).content.decode()
    assert "web in demo" in told
    assert "db in shop" in told


def test_verbs_that_name_what_is_in_a_project_are_not_for_many_of_several(root, world):
    offered = re.findall(r'name="verb" value="([^"]+)"', root.get(PAGE).content.decode())
    assert {"start", "stop", "reboot", "delete"} <= set(offered)
    assert not {verb for verb in offered if verb.startswith(("attach", "detach"))}
    sent = {"verb": "attach-nic", "item": world.instance.pk, "network": "default"}
    assert root.post(f"{PAGE}/selected", sent).status_code == 400
