"""healthz, readyz, metrics."""

import re

import pytest
from django.db.utils import OperationalError

from cloud.api import health


def test_alive_asks_nobody(client, django_assert_num_queries, db):
    with django_assert_num_queries(0):
        assert client.get("/healthz").json() == {"status": "alive"}


def test_ready_names_each_dependency(client, db):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    checks = answer.json()["checks"]
    assert set(checks) == {"database", "redis", "streams", "workers"}
    assert checks["database"]["ok"]
    assert checks["redis"]["ok"]


def test_without_the_database_it_is_not_ready(client, db, monkeypatch):
    def away():
        raise OperationalError("connection refused")

    monkeypatch.setitem(health.CHECKS, "database", (away, True))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert "Retry-After" in answer


def test_without_redis_it_is_degraded_and_says_so_soon(client, db, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["redis"]["seconds"] < 1


def test_metrics_count_requests_by_route_and_never_by_path(api, client, viewer, project):
    api.as_(viewer).get("projects/demo/keypairs")
    text = client.get("/metrics").content.decode()
    route = 'route="api/v1/projects/<str:project>/keypairs"'
    line = rf'pileus_http_request_seconds_count\{{method="GET",{route},status="200"\}} \d'
    assert re.search(line, text)
    assert "demo" not in text
    assert "pileus_operations" in text


@pytest.mark.parametrize("who", [None, "viewer", "cloud_admin"])
def test_metrics_from_elsewhere_are_for_admins_of_the_cloud(api, request, who):
    client = api.as_(request.getfixturevalue(who)) if who else api
    expected = {None: 401, "viewer": 403, "cloud_admin": 200}[who]
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.1").status_code == expected
    assert client.get("/metrics", HTTP_X_FORWARDED_FOR="10.0.0.1").status_code == expected
