"""The rate limit, with Redis and without."""

import secrets
import socket
import time

import pytest
import redis
from django.conf import settings

from cloud.api import limits
from tests import factories
from tests.conftest import forget_limits


@pytest.fixture(autouse=True)
def own_circuit(monkeypatch):
    monkeypatch.setattr(limits, "circuit", limits.Circuit())
    monkeypatch.setattr(limits, "_local", {})


def test_a_burst_passes_and_then_the_rate_holds():
    bucket = factories.name("bucket") + str(time.time())
    verdicts = [limits.take(bucket, rate=5, burst=10) for _ in range(12)]
    assert [verdict.allowed for verdict in verdicts[:10]] == [True] * 10
    assert not verdicts[-1].allowed
    assert verdicts[-1].retry_after == 1
    assert verdicts[0].remaining == 9
    time.sleep(0.45)
    assert limits.take(bucket, rate=5, burst=10).allowed


def test_headers_tell_how_it_stands_and_429_when_to_come_back(api, viewer, member, settings):
    settings.API_RATE_PER_SECOND, settings.API_BURST = 1, 3
    vera = api.as_(viewer)
    answers = [vera.get("flavors") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[0]["RateLimit-Limit"] == "3"
    assert answers[-1]["Retry-After"] == "1"
    assert (answers[-1].json()["code"], answers[-1].json()["retryable"]) == ("rate_limited", True)
    assert api.as_(viewer).get("flavors").status_code == 429  # another token of hers takes from the same bucket
    assert api.as_(member).get("flavors").status_code == 200


def test_pages_take_from_the_users_bucket_and_strangers_from_their_address(client, viewer, settings, fresh_limits):
    settings.API_RATE_PER_SECOND, settings.API_BURST = 0.01, 3
    nobody_elses = {"REMOTE_ADDR": f"2001:db8:{secrets.token_hex(2)}::1"}  # tests run side by side
    assert [client.get("/sign-in", **nobody_elses).status_code for _ in range(4)] == [200, 200, 200, 429]
    client.force_login(viewer)
    assert [client.get("/account/tokens").status_code for _ in range(4)] == [200, 200, 200, 429]


ROOM = {"vcpus": 1, "memory_mib": 1, "disk_gib": 1}
JOIN = {"token": "wrong", "name": "h", "capacity": ROOM, "capabilities": {}}


@pytest.mark.parametrize(("path", "body"), [("join", JOIN), ("heartbeat", {}), ("claim", {})])
def test_guesses_at_the_hosts_doors_are_limited_by_address(api, path, body):
    address = f"2001:db8:{secrets.token_hex(2)}::1"
    wrong = {"HTTP_AUTHORIZATION": "Bearer wrong", "REMOTE_ADDR": address}
    answers = {api.post(f"/agent/v1/{path}", body, **wrong).status_code for _ in range(80)}
    assert 429 in answers


def test_without_redis_the_limit_holds_in_this_process_and_costs_no_time(monkeypatch, settings):
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        limits._script.cache_clear()
        try:
            began = time.monotonic()
            verdicts = [limits.take("x", rate=1, burst=5) for _ in range(50)]
            assert time.monotonic() - began < 10 * limits.TIMEOUT  # not fifty times, which each would wait
        finally:
            limits._script.cache_clear()
    assert sum(verdict.allowed for verdict in verdicts) == 5


def test_a_circuit_closes_again_after_a_while(monkeypatch):
    monkeypatch.setattr(limits, "CIRCUIT_OPEN_SECONDS", 0.1)
    limits.circuit.break_()
    assert limits.circuit.is_open()
    time.sleep(0.15)
    assert not limits.circuit.is_open()


def test_buckets_of_tests_that_run_side_by_side_are_left_to_them(fresh_limits):
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        theirs = f"rate:of-another-{secrets.token_hex(4)}:sign-in-as:somebody"
        client.set(theirs, 1, ex=60)
        forget_limits(limits.KEYS)
        assert client.exists(theirs)
