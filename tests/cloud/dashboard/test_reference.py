"""The API's documentation: every call is there, and what it shows works when it is pasted."""

import json
import re

import pytest

from cloud.api.documentation import document
from cloud.dashboard import reference
from cloud.dashboard.examples import BODIES
from cloud.pages.templatetags.pages import with_code
from cloud.tenancy import new_projects
from tests import factories
from tests.cloud.dashboard.conftest import ALICE

pytestmark = pytest.mark.django_db
PAGE = "/api/v1/docs"
CALLS = [call for group in reference.calls().values() for call in group]


def test_every_call_of_the_document_is_there():
    known = {operation["operationId"] for methods in document()["paths"].values() for operation in methods.values()}
    assert {call.ident for call in CALLS} == known
    assert BODIES.keys() <= {f"{call.takes} {call.path}" for call in CALLS}


def test_strangers_read_it_and_who_is_signed_in_can_try_it(page_of, member):
    stranger, mia = page_of(None).get(PAGE).content.decode(), page_of(member).get(PAGE).content.decode()
    for text in (stranger, mia):
        assert 'id="create_projects_instances"' in text
    assert "data-call=" not in stranger
    assert 'data-call="POST" data-path="/api/v1/projects/{project}/instances"' in mia
    assert 'id="list_projects_volumes"' in page_of(None).get(f"{PAGE}?of=volumes").content.decode()
    assert page_of(None).get(f"{PAGE}?of=nonsense").status_code == 200


def test_examples_are_about_the_readers_project_and_carry_a_token(page_of, member):
    client = page_of(member)
    client.get("/projects/demo")
    commands = re.findall(r"<pre>(curl [^<]+)</pre>", client.get(PAGE).content.decode())
    assert len(commands) == len(reference.calls()["instances"])
    for command in commands:
        assert "Authorization: Bearer $TOKEN" in command
        assert "{" not in command.splitlines()[0]
    assert any("/api/v1/projects/demo/instances/web/stop" in command for command in commands)


def is_missing(fault) -> bool:
    """Whether it is about something that is not there."""
    return fault["code"] == "not_found" or fault["message"].startswith("Not found")


def test_the_bodies_of_examples_are_those_that_their_calls_take(api, cloud_admin, world):
    """What they refer to need not be there, and may not be in the state for it; the bodies themselves have no fault."""
    for name in ("mia", "nia"):
        factories.user(name)
    factories.image("debian")
    factories.project("shop")
    new_projects.furnish(world.project, ALICE)
    admin, faults = api.as_(cloud_admin), []
    for call in CALLS:
        if call.body is not None:
            there, body = f"{call.address('demo')}?dry_run=true", json.dumps(call.body)
            answer = admin.generic(call.takes, there, body, content_type="application/json")
            assert answer.status_code in (200, 201, 202, 400, 404, 409, 503), call.ident  # 503: no host answers here
            if answer.status_code == 400:
                faults += [f"{call.ident} {fault}" for fault in answer.json()["errors"] if not is_missing(fault)]
    assert "\n".join(faults) == ""


def test_words_in_backticks_are_code_and_nothing_else_is_markup():
    assert with_code("Give `a<b` & <i>c</i>.") == "Give <code>a&lt;b</code> &amp; &lt;i&gt;c&lt;/i&gt;."
