"""Saved views: a user's own names for what a list of instances shows."""

import pytest

from cloud.tenancy import saved_views
from cloud.tenancy.models import Role, SavedView
from tests import factories

pytestmark = pytest.mark.django_db

HERE = "projects/demo/saved-views"
LIST = "/projects/demo/instances"


@pytest.fixture
def vera(api, viewer):
    return api.as_(viewer)


def test_a_view_is_kept_changed_and_forgotten(vera):
    made = vera.post(HERE, {"name": "Web, in trouble", "query": "sort=name&q=web&status=trouble"})
    assert made.status_code == 201, made.json()
    assert made.json()["query"] == "q=web&status=trouble&sort=name"
    changed = vera.patch(f"{HERE}/{made.json()['id']}", {"name": "All", "query": ""})
    assert (changed.json()["name"], changed.json()["query"]) == ("All", "")
    assert [view["name"] for view in vera.get(HERE).json()["items"]] == ["All"]
    assert vera.delete(f"{HERE}/All").status_code == 204
    assert not SavedView.objects.exists()


def test_a_view_is_nobody_elses(api, vera, member, project):
    ident = vera.post(HERE, {"name": "Mine", "query": ""}).json()["id"]
    mia = api.as_(member)
    assert mia.get(HERE).json()["items"] == []
    assert mia.delete(f"{HERE}/{ident}").status_code == 404
    assert mia.post(HERE, {"name": "Mine", "query": ""}).status_code == 201


def test_a_name_is_taken_once(vera):
    vera.post(HERE, {"name": "Mine", "query": ""})
    answer = vera.post(HERE, {"name": "Mine", "query": "q=x"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (409, "/name")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"/name", "/query"}),
        ({"name": "", "query": "cursor=x"}, {"/name", "/query"}),
        ({"name": "x" * 61, "query": "?=&&"}, {"/name", "/query"}),
        ({"name": "5e0fba2e-33a5-4a60-8e34-9bb1a2fbe3bb", "query": "nonsense"}, {"/name", "/query"}),
    ],
)
def test_all_faults_are_named(vera, body, pointers):
    answer = vera.post(HERE, body)
    assert answer.status_code == 400
    assert {fault["pointer"] for fault in answer.json()["errors"]} == pointers


def test_there_is_an_end_to_them(vera, viewer, project, monkeypatch):
    monkeypatch.setattr(saved_views, "MAX_VIEWS", 1)
    vera.post(HERE, {"name": "One", "query": ""})
    assert vera.post(HERE, {"name": "Two", "query": ""}).status_code == 409


def squeezed(answer) -> str:
    """A page with its white space as browsers take it."""
    return " ".join(answer.content.decode().split())


def test_the_list_offers_them(client, project, viewer):
    client.force_login(viewer)
    assert "Save this view" not in client.get(LIST).content.decode()
    assert "Save this view" in client.get(f"{LIST}?status=running").content.decode()
    answer = client.post(f"{LIST}/views", {"name": "Up", "status": "running", "sort": "name", "cursor": "x"})
    assert (answer.status_code, answer["Location"]) == (303, f"{LIST}?status=running&sort=name")
    text = squeezed(client.get(answer["Location"]))
    assert 'href="/projects/demo/instances?status=running&amp;sort=name" aria-current="true"' in text
    other = factories.member(project, Role.VIEWER, "otto")
    view = SavedView.objects.get()
    client.force_login(other)
    assert "Up </a>" not in squeezed(client.get(LIST))
    assert client.post(f"{LIST}/views/{view.pk}").status_code == 404
    assert client.post(f"{LIST}/views/{view.pk}/forget").status_code == 404
    client.force_login(viewer)
    assert client.post(f"{LIST}/views/{view.pk}", {"name": "Awake"})["Location"] == answer["Location"]
    assert "Awake </a>" in squeezed(client.get(LIST))
    assert client.post(f"{LIST}/views/{view.pk}/forget").status_code == 303
    assert not SavedView.objects.exists()
