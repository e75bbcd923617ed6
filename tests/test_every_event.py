"""Whatever events are about is called by a name that a person reads."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db.models import Model

from cloud.pages import words

TREE = Path(__file__).resolve().parents[1]
APPS = ("cloud", "compute", "storage")
ABOUT_ANOTHER = {"quota"}  # of which a project is the subject
TOLD_OTHERWISE = {"seen", "finish"}  # "web is running, says host node1", "Stopping web: done"
RECORDED = re.compile(r"\brecord\(\s*f?\"\w+\.(\w+)\.(\w*)")


def recorded() -> list[tuple[str, str]]:
    """Types of subjects with what is done to them, as the sources name them; nothing where it is a variable."""
    sources = (path.read_text() for app in APPS for path in (TREE / app).rglob("*.py"))
    return [found for source in sources for found in RECORDED.findall(source)]


def subject_types() -> set[str]:
    return {subject for subject, _ in recorded()}


def models() -> list[type[Model]]:
    types = {name.replace("_", "") for name in subject_types() - ABOUT_ANOTHER}
    return [model for model in apps.get_models() if model._meta.model_name in types]


def test_the_subjects_of_events_are_found():
    assert {"instance", "token", "join_token", "host", "project", "check"} <= subject_types()


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_it_has_a_name_for_people(model):
    assert model.__str__ is not Model.__str__


@pytest.mark.parametrize("verb", sorted({verb for _, verb in recorded() if verb} - TOLD_OTHERWISE))
def test_what_is_done_is_told_in_the_words_of_people(verb):
    assert verb in words.VERBS
