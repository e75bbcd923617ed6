"""One toast and one row of the activity for each action, which follow its work to its end."""

import re

import pytest
from django.db.models.functions import Now

from cloud.operations import engine
from cloud.operations.models import Operation, Outcome

pytestmark = pytest.mark.django_db
INSTANCES, ACTIVITY = "/projects/demo/instances", "/projects/demo/activity"


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


def toasts(client, path: str = "/projects/demo", part: str = "") -> list[str]:
    text = client.get(path, headers={"HX-Target": part} if part else {}).content.decode()
    found = re.findall(r'class="toast (?:info|success|error)"[^>]*>(.*?)</span>', text.replace("\n", " "))
    return [" ".join(re.sub("<[^>]*>", " ", each).split()) for each in found]


def stop(client, instance) -> Operation:
    client.post(f"{INSTANCES}/{instance.pk}/stop", {"how": "ask", "grace_seconds": "5"})
    return Operation.objects.get(subject_id=instance.pk, finished_at=None)


def end(work: Operation, outcome: str, reason: str = "") -> None:
    Operation.objects.filter(pk=work.pk).update(outcome=outcome, reason=reason, finished_at=Now())


def test_a_toast_follows_its_work_on_every_page_and_tells_its_end_once(mia, world):
    work = stop(mia, world.instance)
    assert [toasts(mia, path) for path in ("/projects/demo", INSTANCES)] == [["web is stopping."]] * 2
    bell = "/notifications?after=2000-01-01T00:00:00%2B00:00"
    assert toasts(mia, bell, "bell") == ["web is stopping."]
    end(work, "done")
    assert toasts(mia, bell, "bell") == ["Stopping web : done"]
    assert toasts(mia, bell, "bell") == toasts(mia) == []
    assert 'aria-label="Notifications"' in mia.get("/projects/demo").content.decode()


def test_a_failure_is_told_by_one_toast_and_by_the_bell(mia, world):
    work = stop(mia, world.instance)
    end(work, "failed", "Its host <died>.")
    bell = "/notifications?after=2000-01-01T00:00:00%2B00:00"
    assert toasts(mia, bell, "bell") == ["Stopping web : failed Its host &lt;died&gt;."]
    text = mia.get("/projects/demo").content.decode()
    assert "Notifications, 1 unread" in text


def test_work_that_was_taken_over_has_no_toast_any_more(mia, world):
    stop(mia, world.instance)
    mia.post(f"{INSTANCES}/{world.instance.pk}/start")
    assert toasts(mia) == ["web is starting."]


def test_several_launched_at_once_are_one_toast(mia, world):
    form = {"name": "many", "count": "3", "flavor": "small", "image": "tiny", "keypairs": ["laptop"], "form_key": ""}
    mia.post("/projects/demo/launch", form)
    works = list(Operation.objects.filter(subject_name__startswith="many", finished_at=None))
    assert len(works) == 3
    (told,) = toasts(mia)
    assert "being launched" in told
    end(works[0], "done")
    assert "1 of 3 done" in mia.get("/projects/demo").content.decode()


def test_an_action_is_one_row_that_follows_its_work(mia, world):
    work = stop(mia, world.instance)
    rows = re.findall(
        r"<li[^>]*>(.*?)</li>", mia.get(ACTIVITY).content.decode().partition('class="timeline"')[2], re.DOTALL
    )
    assert "stopped" in rows[0]
    assert "under way" in rows[0]
    work.refresh_from_db()
    engine._finish(work, Outcome.FAILED, "Its host died.")
    work.save()
    text = mia.get(ACTIVITY).content.decode()
    assert "Its host died." in text
    assert "Stopping web" not in text
    assert "Stopping web" in " ".join(mia.get(f"{ACTIVITY}?all=1").content.decode().split())
    assert "Stopping web" in mia.get(f"{ACTIVITY}?action=.finish").content.decode()
