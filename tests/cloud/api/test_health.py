"""healthz, readyz, metrics."""

import re

import pytest
from django.db.utils import OperationalError

from cloud.api import health


@pytest.fixture(autouse=True)
def asked_each_time(monkeypatch):
    monkeypatch.setattr(health, "READY_SECONDS", 0.0)


def test_strangers_are_told_no_words_of_exceptions_and_cost_one_look_a_second(client, db, monkeypatch):
    looks = []

    def fail() -> str:
        looks.append(1)
        raise OperationalError("secret words")

    monkeypatch.setitem(health.CHECKS, "redis", (fail, False))
    monkeypatch.setattr(health, "_lately", (0.0, {}))
    monkeypatch.setattr(health, "READY_SECONDS", 60.0)
    for _ in range(5):
        assert "secret" not in client.get("/readyz").content.decode()
    assert len(looks) == 1


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


def test_metrics_count_requests_by_route_and_never_by_path(api, cloud_admin, viewer, project):
    api.as_(viewer).get("projects/demo/keypairs")
    text = api.as_(cloud_admin).get("/metrics").content.decode()
    route = 'route="api/v1/projects/<str:project>/keypairs"'
    line = rf'pileus_http_request_seconds_count\{{method="GET",{route},status="200"\}} \d'
    assert re.search(line, text)
    assert "demo" not in text
    assert "pileus_operations" in text


@pytest.mark.parametrize("who", [None, "viewer", "cloud_admin"])
def test_metrics_are_for_admins_of_the_cloud_wherever_they_are(api, request, who):
    client = api.as_(request.getfixturevalue(who)) if who else api
    expected = {None: 401, "viewer": 403, "cloud_admin": 200}[who]
    assert client.get("/metrics").status_code == expected
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.1").status_code == expected
    assert client.get("/metrics", HTTP_X_FORWARDED_FOR="10.0.0.1").status_code == expected
