"""Lists of every kind: one verb for what is selected, on one page or on all of them."""

import re
from typing import Any

import pytest
from django.db.models.functions import Now
from django.urls import resolve

from cloud.operations.models import Operation
from cloud.pages.bulk import MAX_SELECTED
from compute.models import KeyPair
from storage.models import Snapshot
from tests import factories
from tests.cloud.dashboard import networking, storing
from tests.cloud.dashboard.test_every_page import fill_in, routes

pytestmark = pytest.mark.django_db
KEYS, INSTANCES, VOLUMES, SNAPSHOTS = (
    f"/projects/demo/{kind}" for kind in ("keypairs", "instances", "volumes", "snapshots")
)
SELECTED = [route for route in routes() if route.endswith("/selected")]


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


def keys(project: Any, count: int, prefix: str = "key") -> list[KeyPair]:
    made = [KeyPair(project=project, name=f"{prefix}{number}", public_key="ssh-ed25519 A") for number in range(count)]
    return KeyPair.objects.bulk_create(made)


def heading(client: Any, path: str) -> str:
    """Of the card that tells what has become of many."""
    found = re.search(r"data-results[^>]*>.*?<h2>(.*?)</h2>", client.get(path).content.decode(), re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def test_every_list_asks_those_who_may_and_refuses_the_others(
    world, page_of, viewer, member, other_tenant, cloud_admin
):
    own = factories.image(project=world.project)
    known = {
        "project": "demo", "instance": world.instance.pk, "keypair": world.keypair.pk, "flavor": world.flavor.pk,
        "volume_type": factories.volume_type().pk,
        "image": own.pk, **networking.one_of_each(world.project), **storing.one_of_each(world.project),
    }  # fmt: skip
    people = {user: page_of(user) for user in (viewer, member, other_tenant, cloud_admin)}
    assert len(SELECTED) >= 15
    for route in SELECTED:
        path = fill_in(route, known).partition("?")[0]
        page = resolve(path).func.view_initkwargs["of"]
        form = {"verb": "delete", "item": str(known[page.key])}
        is_of_cloud = page.for_cloud_admins
        refused = (viewer, member, other_tenant) if is_of_cloud else (viewer, other_tenant)
        for user in refused:
            assert people[user].post(path, form).status_code in (403, 404), (route, user)
            assert people[user].get(path, form).status_code in (403, 404) or page.key == "instance", (route, user)
        text = people[cloud_admin if is_of_cloud else member].get(path, form).content.decode()
        assert ("<h2>Delete " in text, f'value="{known[page.key]}"' in text) == (True, True), route
        assert not re.search(r"\s(style|on\w+)=", text)
        for wrong in ({"verb": "delete"}, {**form, "verb": "explode"}, {**form, "item": "no-id"}):
            assert b"Nothing is selected" in people[cloud_admin].get(path, wrong).content, (route, wrong)


def test_all_pages_of_a_list_are_selected_as_its_filter_has_them(mia, world):
    keys(world.project, 55)
    keys(world.project, 3, prefix="other")
    assert "Select all 59, on every page" in " ".join(mia.get(KEYS).content.decode().split())
    narrowed = f"{KEYS}?q=key&sort=-name"
    assert "Select all 55 that match the filter, on every page" in " ".join(mia.get(narrowed).content.decode().split())
    asked = mia.get(f"{KEYS}/selected", {"verb": "delete", "all": "1", "to": narrowed}).content.decode()
    assert "Delete 55 key pairs?" in asked
    items = re.findall(r'name="item" value="([^"]+)"', asked)
    keys(world.project, 1, prefix="key-that-came-later-")
    answer = mia.post(f"{KEYS}/selected", {"verb": "delete", "item": items, "to": narrowed})
    assert (answer.status_code, answer["Location"]) == (303, narrowed)
    left = set(KeyPair.objects.filter(project=world.project).values_list("name", flat=True))
    assert left == {"other0", "other1", "other2", "key-that-came-later-0", world.keypair.name}
    assert heading(mia, narrowed) == "Delete: 55 done"
    assert heading(mia, narrowed) == ""


def test_more_than_can_be_done_at_once_says_so(mia, world):
    keys(world.project, MAX_SELECTED + 1)
    asked = mia.get(f"{KEYS}/selected", {"verb": "delete", "all": "1", "to": f"{KEYS}?q=key"}).content.decode()
    assert f"These are the first {MAX_SELECTED} of {MAX_SELECTED + 1}." in " ".join(asked.split())


def test_the_card_follows_the_work_to_its_end(mia, world):
    mia.post(f"{INSTANCES}/selected", {"verb": "stop", "item": world.instance.pk})
    assert [heading(mia, INSTANCES) for _ in range(2)] == ["Stop: 1 begun"] * 2
    part = mia.get(INSTANCES, headers={"HX-Target": "results"}).content.decode()
    assert ('data-live="operation"' in part, "<nav" in part) == (True, False)
    world.settle(world.instance, "stopped")
    part = mia.get(INSTANCES, headers={"HX-Target": "results"}).content.decode()
    assert ("Stop: 1 done" in part, "data-live" in part) == (True, False)
    assert set(re.findall(r'method="post" action="(.*?)"', part)) == {f"{INSTANCES}/selected"}
    undo = dict(re.findall(r'name="(form_key|verb|to|item)" value="(.+?)"', part))
    assert mia.post(f"{INSTANCES}/selected", undo)["Location"] == INSTANCES
    assert heading(mia, INSTANCES) == "Start: 1 begun"
    world.settle(world.instance, "running")
    assert [heading(mia, INSTANCES) for _ in range(2)] == ["Start: 1 done", ""]


def test_work_that_failed_says_why_on_the_card(mia, world):
    mia.post(f"{INSTANCES}/selected", {"verb": "stop", "item": world.instance.pk})
    works = Operation.objects.filter(subject_id=world.instance.pk, finished_at=None)
    works.update(outcome="failed", reason="Its host <died>.", finished_at=Now())
    assert "Its host &lt;died&gt;." in mia.get(INSTANCES, headers={"HX-Target": "results"}).content.decode()
    assert heading(mia, INSTANCES) == "Stop: 1 failed"


def test_a_card_that_is_closed_stays_away(mia, world):
    mia.post(f"{INSTANCES}/selected", {"verb": "stop", "item": world.instance.pk})
    assert heading(mia, KEYS) == ""
    assert heading(mia, INSTANCES) == "Stop: 1 begun"
    answer = mia.post(f"{INSTANCES}/selected", {"dismiss": "1", "to": "//evil.example"})
    assert (answer["Location"], heading(mia, INSTANCES)) == (INSTANCES, "")


def test_what_will_be_refused_says_why_and_holds_up_no_other(mia, world):
    (_, gone), (_, kept) = (storing.with_snapshot(world.project) for _ in range(2))
    Snapshot.objects.filter(pk=kept.pk).update(protected=True)
    form = {"verb": "delete", "item": [gone.pk, kept.pk], "to": SNAPSHOTS}
    asked = " ".join(mia.get(f"{SNAPSHOTS}/selected", form).content.decode().split())
    assert re.search(rf"{kept.name}</span>.*?protected", asked)
    assert "They cannot be brought back." in asked
    assert Snapshot.objects.count() == 2
    mia.post(f"{SNAPSHOTS}/selected", form)
    assert list(Snapshot.objects.values_list("pk", flat=True)) == [kept.pk]
    assert heading(mia, SNAPSHOTS) == "Delete: 1 done, 1 refused"


def test_what_the_trash_keeps_is_not_called_lost(mia, world):
    volume, _ = storing.with_snapshot(world.project)
    form = {"verb": "delete", "item": volume.pk}
    assert b"Kept in the trash for 24 hours." in mia.get(f"{VOLUMES}/selected", form).content
    mia.post(f"{VOLUMES}/selected", form)
    assert f'href="/projects/{world.project.name}/trash">Trash' in mia.get(VOLUMES).content.decode()
    volume.refresh_from_db()
    assert volume.trashed_at


def test_what_goes_along_is_shown_before(mia, world):
    ids = networking.one_of_each(world.project)
    form = {"verb": "delete", "item": ids["router"]}
    asked = " ".join(mia.get("/projects/demo/routers/selected", form).content.decode().split())
    assert re.search(r"This is deleted with them:.*?port forward <span.*?This stays, but changes:.*?floating IP", asked)


def test_floating_ips_are_disassociated_together(mia, world):
    floating = networking.one_of_each(world.project)["floating"]
    here = "/projects/demo/floating-ips"
    mia.post(f"{here}/selected", {"verb": "disassociate", "item": floating})
    assert heading(mia, here) == "Disassociate: 1 done"
