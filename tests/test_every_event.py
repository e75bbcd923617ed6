"""What events are about is called by a name that a person reads, and what was done by a word. Seen, not read: every
change of the API is made, and what the suite's small cloud does by itself happens, and then the log is looked at.
"""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db.models import Model

from cloud.api.documentation import document
from cloud.events.models import Event
from cloud.pages import words
from tests.good_requests import CHANGES, World, advance_at_once

TREE = Path(__file__).resolve().parents[1]
APPS = ("cloud", "compute", "storage", "network")
ABOUT_ANOTHER = {"quota", "member"}  # of which a project, and a user, are the subjects
TOLD_OTHERWISE = {"seen", "finish"}  # "web is running, says host node1", "Stopping web: done"
RECORDED = re.compile(r"\brecord\(\s*f?\"\w+\.(\w+)\.(\w*)")
EVERY_CHANGE = [(m, route) for route, methods in document()["paths"].items() for m in methods if m in CHANGES]
WITHOUT_EVENT = {
    "/api/v1/notifications/seen",  # a mark of the reader's own
    "/api/v1/projects/{project}/instances/{ref}/diagnose-connection",  # a look
}


@pytest.fixture
def world(cloud, cloud_admin, monkeypatch):
    monkeypatch.setattr("cloud.streams.handover.ask_host", lambda *args: ({}, b""))
    return World(cloud, cloud_admin)


def require_words(events):
    """Every event's subject type and verb are told in the words of people."""
    for event in events:
        _, subject, verb = event.action.split(".")
        assert event.subject_type == subject
        assert verb in words.VERBS.keys() | TOLD_OTHERWISE, f"{event.action}: words.VERBS has no {verb}"
        require_name(subject)


def require_name(subject):
    if subject not in ABOUT_ANOTHER:
        models = [model for model in apps.get_models() if model._meta.model_name == subject.replace("_", "")]
        assert models, f"no model is called {subject}"
        assert all(model.__str__ is not Model.__str__ for model in models), f"{subject} has no name for people"


@pytest.mark.parametrize(("method", "route"), EVERY_CHANGE)
def test_every_change_is_told_in_the_words_of_people(method, route, world, api):
    good = world.good(method, route)
    before = Event.objects.latest("id").pk
    answer = api.as_(world.caller).generic(method.upper(), good.address(route), good.json(), "application/json")
    assert 200 <= answer.status_code < 300, answer.content
    told = Event.objects.filter(pk__gt=before, actor=world.caller.username)
    assert told.exists() == (route not in WITHOUT_EVENT)
    require_words(told)


def test_what_happens_by_itself_is_told_in_the_words_of_people(world):
    """Work ends, a machine crashes, a guest powers itself off."""
    crashed, off = world.instance(), world.instance()
    world.cloud.node.hypervisor.crash(str(crashed.pk))
    world.cloud.node.hypervisor.power_off(str(off.pk))
    world.cloud.settle(advance_at_once)
    events = Event.objects.all()
    assert {"seen", "finish", "power_off", "join"} <= {event.action.split(".")[2] for event in events}
    require_words(events)


def literals() -> list[tuple[str, str]]:
    """Types of subjects and verbs that sources name; nothing where it is a variable. Also what no test makes happen."""
    sources = (path.read_text() for app in APPS for path in (TREE / app).rglob("*.py"))
    return [found for source in sources for found in RECORDED.findall(source)]


@pytest.mark.parametrize("subject", sorted({subject for subject, _ in literals()}))
def test_it_has_a_name_for_people(subject):
    require_name(subject)


@pytest.mark.parametrize("verb", sorted({verb for _, verb in literals() if verb} - TOLD_OTHERWISE))
def test_what_is_done_is_told_in_the_words_of_people(verb):
    assert verb in words.VERBS


def test_the_subjects_of_events_are_found():
    assert {"instance", "token", "join_token", "host", "project", "check"} <= {subject for subject, _ in literals()}
