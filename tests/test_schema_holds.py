"""The running API against its own schema: every answer has a documented status, media type and form.

Every operation is met twice: by a request that succeeds, and by requests that schemathesis makes up, good and bad, of
which none may fail with a 5xx. Half of the made-up ones lead to something that is there.
"""

import copy
import itertools

import pytest
import schemathesis
from django.core import signals
from django.db import close_old_connections, connection
from hypothesis import HealthCheck, Phase, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from cloud.api.documentation import document
from cloud.wsgi import application
from tests import factories
from tests.good_requests import World
from tests.rows import undone

pytestmark = pytest.mark.django_db

EXAMPLES = 8
# A well-formed reference may lead nowhere; and who may ask what is the matter of test_every_route.
NOT_PROMISED = [positive_data_acceptance, ignored_auth]
schema = schemathesis.openapi.from_wsgi("/api/v1/schema", application)  # asks no database
OPERATIONS = [
    (method, route) for route, methods in document()["paths"].items() for method in methods if method != "parameters"
]


@pytest.fixture(autouse=True)
def one_long_transaction(db):
    """The test's transaction may pause while requests are made up."""
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 0")


def call(case, headers):
    """One request inside the test's transaction, whose connection it leaves open."""
    signals.request_started.disconnect(close_old_connections)
    signals.request_finished.disconnect(close_old_connections)
    try:
        return case.call(app=application, headers=headers)
    finally:
        signals.request_started.connect(close_old_connections)
        signals.request_finished.connect(close_old_connections)


@pytest.fixture
def world(cloud, cloud_admin, monkeypatch):
    """A cloud with one of everything. Its hosts answer at once when they are asked for a console."""
    monkeypatch.setattr("cloud.api.limits.take", lambda *args, **kwargs: Allowed())
    monkeypatch.setattr("cloud.streams.handover.ask_host", lambda *args: ({}, b""))
    return World(cloud, cloud_admin)


@pytest.fixture
def headers(world):
    return {"Authorization": f"Bearer {factories.token(world.caller)}"}


class Allowed:
    allowed, headers = True, {}


@pytest.mark.parametrize(("method", "route"), OPERATIONS)
def test_a_success_is_what_the_schema_promises(method, route, world, headers):
    answer = succeed(schema, method, route, world, headers)
    promised = {status for status in document()["paths"][route][method]["responses"] if status.startswith("2")}
    assert str(answer.status_code) in promised, answer.text


def test_a_success_that_is_not_in_the_schema_is_found(world, headers):
    """What the two tests here stand on."""
    route = "/api/v1/projects/{project}/instances/{ref}/stop"
    without = copy.deepcopy(document())
    del without["paths"][route]["post"]["responses"]["202"]
    with pytest.raises(FailureGroup, match=r"Undocumented status code\s+Received: 202"):
        succeed(schemathesis.openapi.from_dict(without), "post", route, world, headers)


def succeed(of, method, route, world, headers):
    """A good request to one operation; the answer, which is as the schema `of` has it."""
    good = world.good(method, route)
    facts = {"path_parameters": dict(good.path)}
    if "requestBody" in document()["paths"][route][method]:
        facts |= {"body": dict(good.body), "media_type": "application/json"}
    case = of[route][method].Case(**facts)
    answer = call(case, headers)
    assert 200 <= answer.status_code < 300, answer.text
    case.validate_response(answer, excluded_checks=NOT_PROMISED)
    return answer


turns = itertools.count()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_keeps_what_its_schema_promises(case, world, headers):
    lead_somewhere(case, world)
    with undone():
        answer = call(case, headers)
    case.validate_response(answer, excluded_checks=NOT_PROMISED)


def lead_somewhere(case, world):
    """A made-up path leads into the project, and each second time to what is there."""
    if case.path_parameters and "project" in case.path_parameters:
        case.path_parameters["project"] = world.project.name
    if next(turns) % 2 and case.path_parameters and "ref" in case.path_parameters:
        case.path_parameters["ref"] = world.reference(case.operation.path)
    if case.headers:
        case.headers.pop("If-Match", None)  # a made-up one is stale, which is another matter
