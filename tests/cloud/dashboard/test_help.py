"""Help: every page leads to the part of a guide that is about it, and the guides are pages like others."""

import re
from pathlib import Path

import pytest
from django.urls import URLPattern, URLResolver

from cloud.dashboard.guides import GUIDES, rendered
from cloud.pages.base import Page
from cloud.urls import pages

pytestmark = pytest.mark.django_db
TREE = Path(__file__).resolve().parents[3]
OWN_HELP = {"help", "help/<slug:guide>", "design"}  # the guides themselves, and the page of those who build this


def pages_shown(patterns=pages):
    """(route, kind of page) of all that are shown by GET."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from pages_shown(pattern.url_patterns)
        elif isinstance(pattern, URLPattern):
            kind = getattr(pattern.callback, "view_class", None)
            kind = pattern.callback.view_initkwargs.get("of", kind) if kind else None
            if kind and issubclass(kind, Page) and "get" in kind.http_method_names and hasattr(kind, "template"):
                yield str(pattern.pattern), kind


def test_every_page_leads_to_a_part_of_a_guide_that_is_there_and_that_its_readers_may_read():
    wrong = {}
    for route, kind in pages_shown():
        guide, _, anchor = kind.help.partition("#")
        known = {section.anchor for section in rendered(guide).sections} if guide in GUIDES else set()
        is_readable = guide in GUIDES and (
            kind.for_cloud_admins or not GUIDES[guide].for_cloud_admins or kind.__name__ in ("Move", "MoveVolume")
        )
        if route not in OWN_HELP and not (anchor in known and is_readable):
            wrong[route] = kind.help
    assert wrong == {}


def test_the_link_is_on_the_page(page_of, member, world):
    mia = page_of(member)
    page = mia.get(f"/projects/demo/instances/{world.instance.pk}/console").content.decode()
    assert 'href="/help/instances#console"' in page
    assert 'data-key="h"' in page
    assert 'id="console"' in mia.get("/help/instances").content.decode()
    assert 'class="help"' not in mia.get("/projects/nobody").content.decode()


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_is_a_page_whose_links_lead_somewhere(name, page_of, cloud_admin):
    root = page_of(cloud_admin)
    page = root.get(f"/help/{name}").content.decode()
    article = page.partition("<article")[2].partition("</article>")[0]
    anchors = [section.anchor for section in rendered(name).sections]
    assert len(anchors) == len(set(anchors)) > 0
    assert "**" not in re.sub(r"<pre>.*?</pre>", "", article, flags=re.DOTALL)
    for guide, anchor in re.findall(r'href="/help/(\w+)#?([\w-]*)"', article):
        assert not anchor or anchor in {section.anchor for section in rendered(guide).sections}
    assert not re.search(r'href="(?!/help/)', article)
    assert f"docs/{name}.md" in (TREE / "Dockerfile").read_text()


def test_the_guide_for_operators_is_for_admins_of_the_cloud(page_of, member, cloud_admin):
    mia, root = page_of(member), page_of(cloud_admin)
    assert mia.get("/help/operating").status_code == 403
    assert mia.get("/help/nonsense").status_code == 404
    assert "/help/operating" not in mia.get("/help").content.decode()
    assert "/help/operating" not in mia.get("/palette?q=help").content.decode()
    assert "/help/operating" in root.get("/palette?q=help").content.decode()


def test_the_palette_finds_help_by_its_word(page_of, member):
    found = page_of(member).get("/palette?q=help snapshots").content.decode()
    assert 'href="/help/storage#snapshots"' in found
