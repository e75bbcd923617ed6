"""Pages, filters, labels."""

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from compute.models import KeyPair
from tests import factories

PATH = "projects/demo/keypairs"


@pytest.fixture
def keypairs(project):
    made = [
        KeyPair(project=project, name=f"key{number}", public_key="x", fingerprint="x", labels={"n": str(number % 3)})
        for number in range(23)
    ]
    KeyPair.objects.bulk_create(made)  # one moment for all of them: only the id tells them apart
    return made


def walk(client, path: str) -> list[list[dict]]:
    pages = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, answer.json()
        pages.append(answer.json()["items"])
        path = answer.json()["next"]
        assert len(pages) < 100
    return pages


def test_pages_hold_everything_once(api, viewer, keypairs):
    pages = walk(api.as_(viewer), f"{PATH}?limit=5")
    assert [len(page) for page in pages] == [5, 5, 5, 5, 3]
    assert {item["id"] for page in pages for item in page} == {str(made.pk) for made in keypairs}


def test_next_is_a_url_that_keeps_the_filters(api, viewer, keypairs):
    answer = api.as_(viewer).get(f"{PATH}?limit=2&label=n:1").json()
    assert answer["next"].startswith(f"{settings.PUBLIC_URL}/api/v1/projects/demo/keypairs?")
    pages = walk(api.as_(viewer), f"{PATH}?limit=2&label=n:1")
    assert {item["labels"]["n"] for page in pages for item in page} == {"1"}
    assert sum(map(len, pages)) == 8


def test_what_comes_in_between_disturbs_no_page(api, viewer, keypairs, project):
    first = api.as_(viewer).get(f"{PATH}?limit=10").json()
    KeyPair.objects.filter(pk=first["items"][-1]["id"]).delete()
    KeyPair.objects.create(project=project, name="late", public_key="x", fingerprint="x")
    rest = walk(api.as_(viewer), first["next"])
    assert len({item["id"] for page in rest for item in page}) == 14


def test_flavors_are_ordered_by_size_and_name(api, viewer):
    for name, memory, vcpus in (("d", 512, 1), ("c", 256, 2), ("b", 256, 1), ("a", 256, 2)):
        factories.flavor(name, memory_mib=memory, vcpus=vcpus)
    pages = walk(api.as_(viewer), "flavors?limit=1")
    assert [page[0]["name"] for page in pages] == ["b", "a", "c", "d"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=x", "limit=5&limit=6", "cursor=x", "cursor=", "cursor=WzFd:abc", "colour=red",
        "public_key=x", "project_id=x", "label=x", "label=:x", "label=n:1&label=n:2", "name=%00", "id__gt=1",
        "label=" + "k" * 64 + ":v",
    ],
)  # fmt: skip
def test_what_is_no_parameter_here_is_refused_by_name(api, viewer, query):
    answer = api.as_(viewer).get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"].startswith("?")


def test_a_cursor_of_another_list_is_refused(api, viewer, keypairs):
    for name in ("a", "b"):
        factories.flavor(name)
    following = api.as_(viewer).get("flavors?limit=1").json()["next"]
    assert api.as_(viewer).get(f"{PATH}?{following.partition('?')[2]}").status_code == 400


def test_all_faults_of_a_query_come_together(api, viewer):
    faults = api.as_(viewer).get(f"{PATH}?limit=0&colour=red&label=x").json()["errors"]
    assert {fault["pointer"] for fault in faults} == {"?limit", "?colour", "?label"}


@pytest.mark.parametrize("number", [1, 50])
def test_a_page_is_three_queries_however_long_it_is(api, viewer, keypairs, number):
    """The token with its user, the project with the role, the page."""
    vera = api.as_(viewer)
    vera.get(PATH)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        vera.get(f"{PATH}?limit={number}")
    assert len(queries) == 3
