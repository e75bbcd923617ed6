"""The running API against its own schema: schemathesis makes up requests, good and bad, for every operation.

No request may fail with a 5xx, and every answer has a documented status, media type and form.
"""

import contextlib

import pytest
import schemathesis
from django.core import signals
from django.db import close_old_connections, connection, transaction
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from cloud.wsgi import application
from tests import factories

pytestmark = pytest.mark.django_db

EXAMPLES = 8
# A well-formed reference may lead nowhere; and who may ask what is the matter of test_every_route.
NOT_PROMISED = [positive_data_acceptance, ignored_auth]
schema = schemathesis.openapi.from_wsgi("/api/v1/schema", application)  # asks no database


@pytest.fixture(autouse=True)
def one_long_transaction(db):
    """The test's transaction outlives requests, and pauses while requests are made up."""
    signals.request_started.disconnect(close_old_connections)
    signals.request_finished.disconnect(close_old_connections)
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
    yield
    signals.request_started.connect(close_old_connections)
    signals.request_finished.connect(close_old_connections)


@pytest.fixture
def names(project, cloud_admin, monkeypatch):
    """One of most things, so that made-up paths lead somewhere, and a token that may do everything."""
    monkeypatch.setattr("cloud.api.limits.take", lambda *args, **kwargs: Allowed())
    factories.host("node")
    factories.flavor("small")
    factories.image("tiny", files=[])
    project.keypairs.create(name="laptop", public_key="ssh-ed25519 AAAA", fingerprint="SHA256:x")
    return {"project": "demo", "token": factories.token(cloud_admin)}


class Allowed:
    allowed, headers = True, {}


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_api_keeps_what_its_schema_promises(case, names):
    if case.path_parameters and "project" in case.path_parameters:
        case.path_parameters["project"] = names["project"]
    if case.headers:
        case.headers.pop("If-Match", None)  # a made-up one is stale, which is another matter
    with undone():
        answer = case.call(headers={"Authorization": f"Bearer {names['token']}"})
    case.validate_response(answer, excluded_checks=NOT_PROMISED)


@contextlib.contextmanager
def undone():
    block = transaction.atomic()
    block._from_testcase = True
    with block:
        yield
        transaction.set_rollback(True)
