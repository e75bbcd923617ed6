"""Operations through the API."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from cloud.events.models import Event
from cloud.operations.models import Operation
from compute.workflows import LaunchInstance
from tests import factories

PATH = "projects/demo/operations"


@pytest.fixture
def live(project):
    return make(project)


def make(project, **fields) -> Operation:
    facts = {
        "kind": LaunchInstance.kind, "subject_type": "instance", "subject_id": uuid4(), "subject_name": "web",
        "project_id": project.pk, "step": "place", "deadline_at": Now() + timedelta(minutes=5), "requested_by": "mia",
        **fields,
    }  # fmt: skip
    return Operation.objects.create(**facts)


def test_an_operation_tells_everything_that_clients_rely_on(api, viewer, project):
    live = make(project, progress_done=3, progress_of=10, progress_unit="MiB", reason="no room yet")
    shown = api.as_(viewer).get(f"{PATH}/{live.pk}").json()
    assert shown["subject"] == {"type": "instance", "id": str(live.subject_id), "name": "web"}
    assert shown["progress"] == {"done": 3, "of": 10, "unit": "MiB"}
    assert (shown["kind"], shown["step"], shown["reason"]) == ("compute.launch", "place", "no room yet")
    assert (shown["outcome"], shown["finished_at"], shown["requested_by"]) == (None, None, "mia")


def test_the_list_is_filtered_and_the_latest_comes_first(api, viewer, project):
    old, new = make(project, started_at=Now() - timedelta(hours=1)), make(project)
    make(factories.project())
    done = make(project, outcome="done", finished_at=Now(), started_at=Now() - timedelta(hours=2))
    vera = api.as_(viewer)
    assert ids(vera.get(PATH)) == [str(new.pk), str(old.pk), str(done.pk)]
    assert ids(vera.get(f"{PATH}?live=true")) == [str(new.pk), str(old.pk)]
    assert ids(vera.get(f"{PATH}?outcome=done")) == [str(done.pk)]
    assert ids(vera.get(f"{PATH}?subject={old.subject_id}")) == [str(old.pk)]
    assert vera.get(f"{PATH}?subject=x").status_code == 400
    assert ids(vera.get(vera.get(f"{PATH}?limit=2").json()["next"])) == [str(done.pk)]


def ids(answer) -> list[str]:
    return [item["id"] for item in answer.json()["items"]]


@pytest.mark.parametrize("wait", ["-1", "61", "x", "1.5", ""])
def test_a_wait_is_0_to_60_seconds(api, viewer, live, wait):
    assert api.as_(viewer).get(f"{PATH}/{live.pk}?wait={wait}").status_code == 400


def test_where_waiting_is_impossible_the_answer_comes_at_once(api, viewer, live):
    assert api.as_(viewer).get(f"{PATH}/{live.pk}?wait=30").json()["outcome"] is None


def test_a_wait_for_what_has_ended_is_counted(api, viewer, project, settings):
    settings.API_RATE_PER_SECOND, settings.API_BURST = 1, 2
    ended = make(project, outcome="done", finished_at=Now())
    vera = api.as_(viewer)
    codes = [vera.get(f"{PATH}/{ended.pk}?wait=30").status_code for _ in range(3)]
    assert codes == [200, 200, 429]


def test_cancel_is_accepted_once_more_and_noted_once(api, member, live):
    mia = api.as_(member)
    for _ in range(2):
        answer = mia.post(f"{PATH}/{live.pk}/cancel")
        assert (answer.status_code, answer.json()["id"]) == (202, str(live.pk))
        assert answer.json()["cancel_requested_at"]
    assert list(Event.objects.values_list("action", flat=True)) == ["operations.operation.cancel"]


def test_cancelling_what_has_ended_is_409(api, member, project):
    ended = make(project, outcome="done", finished_at=Now())
    answer = api.as_(member).post(f"{PATH}/{ended.pk}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "operation_finished")


def test_a_viewer_does_not_cancel_and_a_stranger_sees_nothing(api, viewer, other_tenant, live):
    assert api.as_(viewer).post(f"{PATH}/{live.pk}/cancel").status_code == 403
    assert api.as_(other_tenant).get(f"projects/elsewhere/operations/{live.pk}").status_code == 404
    assert api.as_(other_tenant).post(f"projects/elsewhere/operations/{live.pk}/cancel").status_code == 404


@pytest.mark.parametrize("reference", ["x", "place", "0", "%00"])
def test_what_is_no_id_is_404(api, viewer, reference):
    assert api.as_(viewer).get(f"{PATH}/{reference}").status_code == 404
