"""What has come of what a user has asked for."""

import pytest
from django.db import transaction
from django.db.models.functions import Now

from cloud.events.services import Actor
from cloud.operations.models import Operation
from cloud.tenancy import quota_requests
from compute import services
from compute.models import Instance
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def begin(project, member):
    """Work that a user has begun, and that has ended so."""

    def launch(outcome: str = "done", user=member, reason: str = "") -> Operation:
        with transaction.atomic():
            instance = services.launch(
                project=project, actor=Actor(user.username, user.pk), name=factories.name("vm"),
                flavor=factories.flavor(), image=factories.image(),
            )  # fmt: skip
        found = Operation.objects.filter(subject_id=instance.pk)
        found.update(outcome=outcome, reason=reason, finished_at=Now())
        return found.get()

    factories.host()
    return launch


def test_ended_work_of_ones_own_is_unread_until_looked_at(api, begin, member, project_admin):
    mia = api.as_(member)
    assert mia.get("notifications").json() == {"unread": 0, "items": []}
    failed = begin("failed", reason="No space left")
    begin("done", user=project_admin)
    begin("superseded")
    told = mia.get("notifications").json()
    assert told["unread"] == 1
    (item,) = told["items"]
    assert (item["id"], item["outcome"], item["reason"]) == (str(failed.pk), "failed", "No space left")
    assert (item["project"], item["unread"]) == ("demo", True)
    seen = mia.post("notifications/seen").json()
    assert (seen["unread"], [item["unread"] for item in seen["items"]]) == (0, [False])
    begin("done")
    told = mia.get("notifications").json()
    assert (told["unread"], [item["outcome"] for item in told["items"]]) == (0, ["done", "failed"])


def test_what_others_do_with_ones_own_is_news(api, begin, member, project_admin):
    instance = Instance.objects.get(pk=begin("done").subject_id)
    for user in (project_admin, member):
        with transaction.atomic():
            services.stop(instance=instance, actor=Actor(user.username, user.pk))
        Operation.objects.filter(finished_at=None).update(outcome="done", finished_at=Now())
        Instance.objects.update(wanted_power="running")
    told = api.as_(member).get("notifications").json()
    assert told["unread"] == 1
    (item,) = [item for item in told["items"] if item["unread"]]
    assert (item["kind"], item["by"], item["outcome"]) == ("compute.stop", project_admin.username, "done")
    assert api.as_(project_admin).get("notifications").json()["unread"] == 0


def test_the_answer_to_a_request_is_told_to_who_asked(api, project, member, cloud_admin):
    with transaction.atomic():
        asked = quota_requests.ask(project=project, actor=Actor("mia", member.pk), limits={"vcpus": 80})
    mia = api.as_(member)
    assert mia.get("notifications").json()["unread"] == 0
    api.as_(cloud_admin).post(f"quota-requests/{asked.pk}/decline", {"note": "Not now."})
    (item,) = mia.get("notifications").json()["items"]
    assert (item["kind"], item["outcome"], item["reason"]) == ("quota_request", "declined", "Not now.")


def test_the_bell_counts_and_the_page_has_looked(page_client, begin):
    begin("failed", reason="<b>No space left</b>")
    assert b"Notifications, 1 unread" in page_client.get("/projects/demo").content
    text = page_client.get("/notifications").content.decode()
    assert "&lt;b&gt;No space left&lt;/b&gt;" in text
    assert '<span class="tag">new</span>' in text
    assert b"unread" not in page_client.get("/projects/demo/quota").content.partition(b"<main")[0]


def test_the_bell_alone_comes_with_toasts_for_what_is_new(page_client, begin):
    here = {"HX-Target": "bell"}
    first = page_client.get("/notifications?after=2000-01-01T00:00:00%2B00:00", headers=here).content.decode()
    assert 'class="toast' not in first
    after = first.partition("?after=")[2].partition('"')[0]
    begin("done")  # by the API, say: whoever did that knows
    failed = begin("failed")
    text = page_client.get(f"/notifications?after={after}", headers=here).content.decode()
    assert f'href="/projects/demo/instances/{failed.subject_id}"' in text
    assert "Launching" in text
    assert (text.count('class="toast error"'), text.count('class="toast')) == (1, 1)
    assert "Notifications, 1 unread" in text
    for nonsense in ("", "yesterday", "2000-01-01T00:00:00", "9999-99-99T00:00:00Z"):
        assert page_client.get("/notifications", {"after": nonsense}, headers=here).status_code == 200


@pytest.fixture
def page_client(member, client):
    client.force_login(member)
    return client
