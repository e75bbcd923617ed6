"""Asking for a larger quota, and the answer."""

import pytest

from cloud.events.models import Event
from cloud.tenancy.models import QuotaRequest
from tests import factories

ASKED = {"vcpus": 80, "instances": 30, "reason": "A fair next week."}


@pytest.fixture
def clients(api, member, viewer, cloud_admin):
    return api.as_(member), api.as_(viewer), api.as_(cloud_admin)


def test_what_is_approved_is_the_quota_from_then_on(clients, project):
    mia, vera, root = clients
    made = mia.post("projects/demo/quota-requests", ASKED)
    assert made.status_code == 201
    assert made.json()["limits"] == {"vcpus": 80, "instances": 30}
    assert made.json()["before"] == {"vcpus": 40, "instances": 20}
    here = f"quota-requests/{made.json()['id']}"
    assert [item["id"] for item in root.get("quota-requests?state=open").json()["items"]] == [made.json()["id"]]
    answer = root.post(f"{here}/approve", {"note": "Have fun."}).json()
    assert (answer["state"], answer["decided_by"], answer["note"]) == ("approved", "root", "Have fun.")
    limits = vera.get("projects/demo/quota").json()
    assert (limits["vcpus"]["limit"], limits["instances"]["limit"]) == (80, 30)
    assert vera.get(f"projects/demo/{here}").json()["state"] == "approved"
    told = list(Event.objects.filter(project_id=project.pk).order_by("id").values_list("action", "actor"))
    assert told == [
        ("tenancy.quota_request.create", "mia"),
        ("tenancy.quota_request.approve", "root"),
        ("tenancy.quota.update", "root"),
    ]


def test_a_dry_run_of_approving_shows_the_quota_and_changes_nothing(clients):
    mia, _, root = clients
    made = mia.post("projects/demo/quota-requests", ASKED).json()
    answer = root.post(f"quota-requests/{made['id']}/approve?dry_run=true", {}).json()
    changed = {change["type"]: change for change in answer["plan"]["changed"]}
    assert changed["quota"]["after"] == {"vcpus": 80, "instances": 30}
    assert QuotaRequest.objects.get().state == "open"
    assert mia.get("projects/demo/quota").json()["vcpus"]["limit"] == 40


def test_an_answer_never_takes_away_what_was_given_meanwhile(clients, project):
    mia, _, root = clients
    made = mia.post("projects/demo/quota-requests", ASKED).json()
    root.patch("projects/demo/quota", {"vcpus": 100, "instances": None})
    assert root.post(f"quota-requests/{made['id']}/approve", {}).status_code == 200
    project.quota.refresh_from_db()
    assert (project.quota.limits["vcpus"], project.quota.limits["instances"]) == (100, None)


def test_declining_says_why_and_changes_nothing(clients):
    mia, _, root = clients
    here = f"quota-requests/{mia.post('projects/demo/quota-requests', ASKED).json()['id']}"
    refused = root.post(f"{here}/decline", {})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/note")
    assert root.post(f"{here}/decline", {"note": "No room before spring."}).json()["state"] == "declined"
    assert mia.get(f"projects/demo/{here}").json()["note"] == "No room before spring."
    assert mia.get("projects/demo/quota").json()["vcpus"]["limit"] == 40


@pytest.mark.parametrize("verb", ["approve", "decline", "withdraw"])
def test_what_is_answered_is_not_answered_again(clients, verb):
    mia, _, root = clients
    here = f"quota-requests/{mia.post('projects/demo/quota-requests', ASKED).json()['id']}"
    assert mia.post(f"projects/demo/{here}/withdraw").json()["state"] == "withdrawn"
    path = f"projects/demo/{here}/withdraw" if verb == "withdraw" else f"{here}/{verb}"
    refused = (mia if verb == "withdraw" else root).post(path, {"note": "x"} if verb != "withdraw" else {})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "withdrawn by mia" in refused.json()["detail"]


def test_the_same_is_asked_for_once_at_a_time(clients):
    mia, *_ = clients
    made = mia.post("projects/demo/quota-requests", ASKED).json()
    again = mia.post("projects/demo/quota-requests", {"instances": 31, "vcpus": 90})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert mia.post("projects/demo/quota-requests", {"vcpus": 90}).status_code == 201
    mia.post(f"projects/demo/quota-requests/{made['id']}/withdraw")
    assert mia.post("projects/demo/quota-requests", ASKED).status_code == 201


def test_every_number_that_is_not_more_is_named(api):
    project = factories.project("lab", limits={"vcpus": 8, "instances": None, "memory_mib": 0})
    mia = api.as_(factories.member(project))
    refused = mia.post("projects/lab/quota-requests", {"vcpus": 8, "instances": 5, "memory_mib": 0})
    assert {(fault["pointer"], fault["message"]) for fault in refused.json()["errors"]} == {
        ("/vcpus", "The limit is 8 already."),
        ("/instances", "There is no limit."),
        ("/memory_mib", "The limit is 0 already."),
    }


@pytest.mark.parametrize("body", [{}, {"reason": "more"}, {"vcpus": None}, {"vcpus": "80"}, {"gpus": 1}])
def test_nothing_and_nonsense_are_refused(clients, body):
    assert clients[0].post("projects/demo/quota-requests", body).status_code == 400


def test_requests_of_other_projects_are_not_there(clients, api, other_tenant):
    mia, *_ = clients
    made = mia.post("projects/demo/quota-requests", ASKED).json()
    otto = api.as_(other_tenant)
    assert otto.get(f"projects/elsewhere/quota-requests/{made['id']}").status_code == 404
    assert otto.get("projects/elsewhere/quota-requests").json()["items"] == []
