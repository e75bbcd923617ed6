"""One verb for many instances: each has its own result, and together they are one request."""

import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cloud.api.models import IdempotencyKey
from cloud.events.models import Event
from cloud.operations.models import Operation
from cloud.tenancy.models import Role
from compute import services
from compute.models import Instance
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def path(cloud):
    return f"projects/{cloud.project.name}/instance-actions"


@pytest.fixture
def three(cloud):
    launched = [cloud.launch(name=f"web-{number}") for number in (1, 2, 3)]
    cloud.settle()
    return launched


def outcomes(answer):
    return [
        (item["reference"], item["operation"]["kind"] if item["operation"] else item["problem"]["code"])
        for item in answer.json()["items"]
    ]


def test_each_has_its_own_result(cloud, mia, path, three):
    cloud.do(services.stop, three[1])
    cloud.settle()
    gone = str(uuid.uuid4())
    answer = mia.post(path, {"verb": "reboot", "instances": ["web-1", "web-2", str(three[2].pk), gone, "nobody"]})
    assert answer.status_code == 202, answer.json()
    assert outcomes(answer) == [
        ("web-1", "compute.reboot"), ("web-2", "conflict"), (str(three[2].pk), "compute.reboot"),
        (gone, "not_found"), ("nobody", "not_found"),
    ]  # fmt: skip
    assert answer.json()["items"][1]["problem"]["detail"] == "web-2 is not running. Start it instead."
    assert answer.json()["items"][2]["instance"] == {"id": str(three[2].pk), "name": "web-3"}
    assert Event.objects.filter(action="compute.instance.reboot").count() == 2
    cloud.settle()
    assert cloud.breaches() == []


def test_a_replay_does_nothing_again(cloud, mia, path, three):
    body = {"verb": "stop", "instances": ["web-1", "web-2"], "force": True}
    first, again = (mia.post(path, body, HTTP_IDEMPOTENCY_KEY="both") for _ in range(2))
    assert (first.json(), again.headers["Idempotent-Replay"]) == (again.json(), "true")
    assert Event.objects.filter(action="compute.instance.stop").count() == 2
    stops = Operation.objects.filter(kind="compute.stop")
    assert set(stops.values_list("subject_name", "parameters__force")) == {("web-1", True), ("web-2", True)}


def test_a_dry_run_shows_every_result_and_keeps_nothing(mia, path, three):
    answer = mia.post(f"{path}?dry_run=true", {"verb": "delete", "instances": ["web-1", "web-2", "nobody"]})
    assert [code for _, code in outcomes(answer)] == ["compute.discard", "compute.discard", "not_found"]
    assert {gone["name"] for gone in answer.json()["plan"]["deleted"]} == {"web-1", "web-2"}
    assert not Event.objects.filter(action="compute.instance.delete").exists()
    assert not IdempotencyKey.objects.exists()


def test_nothing_begun_is_not_202(mia, path, three):
    assert mia.post(path, {"verb": "stop", "instances": ["nobody"]}).status_code == 200


def test_an_instance_meant_twice_is_done_once(mia, path, three):
    answer = mia.post(path, {"verb": "stop", "instances": ["web-1", "web-1", str(three[0].pk)]})
    assert outcomes(answer) == [("web-1", "compute.stop")]


def test_clones_of_many_are_called_by_the_suffix_and_who_cannot_says_why(cloud, mia, path, three):
    cloud.do(services.stop, three[1])
    cloud.settle()
    body = {"verb": "clone", "instances": ["web-1", "web-2", "web-3"], "suffix": "copy", "count": 2}
    answer = mia.post(path, body)
    assert outcomes(answer) == [("web-1", "compute.clone"), ("web-2", "conflict"), ("web-3", "compute.clone")]
    cloud.settle()
    made = Instance.objects.exclude(cloned_from=None).order_by("name")
    assert [(clone.name, clone.seen, clone.cloned_from.name) for clone in made] == [
        ("web-1-copy-1", "running", "web-1"), ("web-1-copy-2", "running", "web-1"),
        ("web-3-copy-1", "running", "web-3"), ("web-3-copy-2", "running", "web-3"),
    ]  # fmt: skip
    again = mia.post(path, {**body, "instances": ["web-1"]})
    assert "web-1-copy-1, web-1-copy-2 are taken" in again.json()["items"][0]["problem"]["detail"]
    assert cloud.breaches() == []


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"/verb", "/instances"}),
        ({"verb": "explode", "instances": []}, {"/verb", "/instances"}),
        ({"verb": "start", "instances": ["web"], "force": True, "hard": True}, {"/force", "/hard"}),
        ({"verb": "stop", "instances": ["web"], "hard": True}, {"/hard"}),
        ({"verb": "clone", "instances": ["web"], "suffix": "No", "count": 21}, {"/suffix", "/count"}),
        ({"verb": "stop", "instances": ["web"] * 501}, {"/instances"}),
        ({"verb": "stop", "instances": [7], "grace_seconds": 601}, {"/instances/0", "/grace_seconds"}),
    ],
)
def test_all_faults_of_a_body_are_named(mia, path, body, pointers):
    answer = mia.post(path, body)
    assert answer.status_code == 400
    assert {fault["pointer"] for fault in answer.json()["errors"]} == pointers


def test_another_projects_instances_are_not_found(api, cloud, path, three):
    other = factories.project("elsewhere")
    nosy = api.as_(factories.member(other, Role.MEMBER, "nosy"))
    answer = nosy.post("projects/elsewhere/instance-actions", {"verb": "delete", "instances": [str(three[0].pk)]})
    assert outcomes(answer) == [(str(three[0].pk), "not_found")]
    assert answer.json()["items"][0]["instance"] is None
    assert nosy.post(path, {"verb": "delete", "instances": ["web-1"]}).status_code == 404


def test_each_more_costs_its_own_change_and_no_look_up(mia, path, three):
    costs = []
    mia.post(f"{path}?dry_run=true", {"verb": "stop", "instances": ["web-1"]})
    for names in (["web-1"], ["web-1", "web-2"], ["web-1", "web-2", "web-3"]):
        with CaptureQueriesContext(connection) as queries:
            mia.post(f"{path}?dry_run=true", {"verb": "stop", "instances": names})
        costs.append(len(queries))
    assert costs[2] - costs[1] == costs[1] - costs[0] <= 14
