"""Pages that are not there: they keep the way around, and lead to what may have what was looked for."""

import re
from uuid import uuid4

import pytest

from cloud.events.services import Actor, record
from cloud.pages.templatetags.history import marked
from compute import services
from tests.cloud.dashboard.conftest import ALICE

pytestmark = pytest.mark.django_db


@pytest.fixture
def mia(page_of, member):
    return page_of(member)


def test_an_address_that_leads_nowhere_keeps_the_way_around(mia, page_of, world):
    mia.get("/projects/demo/instances")
    answer = mia.get("/nonsense/further")
    text = answer.content.decode()
    assert answer.status_code == 404
    assert text.count("There is no page at this address.") == 1
    assert 'href="/projects/demo/keypairs"' in text
    stranger = page_of(None).get("/nonsense")
    assert stranger.status_code == 404
    assert "/projects/" not in stranger.content.decode()


def test_an_instance_that_is_gone_leads_to_the_trash_and_to_what_was_done_with_it(mia, world):
    gone = uuid4()
    answer = mia.get(f"/projects/demo/instances/{gone}")
    assert answer.status_code == 404
    links = re.findall(r'href="(/projects/demo/(?:trash|activity)[^"]*)"', answer.content.decode())
    assert "/projects/demo/trash" in links
    assert f"/projects/demo/activity?subject_id={gone}" in links


def test_activity_does_not_lead_to_what_was_deleted(mia, world):
    there = f'href="/projects/demo/instances/{world.instance.pk}"'
    assert there in mia.get("/projects/demo/activity").content.decode()
    services.discard(instance=world.instance, actor=ALICE)
    assert there not in mia.get("/projects/demo/activity").content.decode()


def test_what_came_back_is_led_to_again(world):
    verbs = ("restore", "stop", "delete")  # the newest first
    events = [record(f"compute.instance.{verb}", world.instance, actor=Actor("mia")) for verb in verbs]
    assert [event.subject_is_gone for event in marked(events)] == [False] * 3
    assert [event.subject_is_gone for event in marked(events[1:])] == [True] * 2
