"""A host's Redis login, on the real server: enough for a Celery worker's bell, and for nothing outside its own keys."""

import hashlib
import threading
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings

from agent.bells import celery_app
from cloud.hosts import orders, redis_acl
from cloud.operations import bells
from tests import factories
from tests.clouds import wait_until

pytestmark = pytest.mark.django_db
PASSWORD = "a secret of this test"


@pytest.fixture
def host():
    made = factories.host(redis_password_digest=hashlib.sha256(PASSWORD.encode()).hexdigest())
    redis_acl.allow(made)
    yield made
    redis_acl.revoke(redis_acl.username(made))


@pytest.fixture
def url(host):
    parts = urlsplit(settings.REDIS_URL)
    address = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{redis_acl.username(host)}:{PASSWORD}@{address}".replace(" ", "%20")).geturl()


@pytest.fixture
def login(url):
    with redis.Redis.from_url(url) as connection:
        yield connection


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"), ("SCAN", "0"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("CLIENT", "LIST"),
        ("CLIENT", "KILL", "ID", "1"),
        ("ACL", "LIST"), ("SHUTDOWN",), ("MONITOR",), ("MODULE", "LIST"), ("FUNCTION", "LIST"),
        ("GET", "h:another:x"), ("LPUSH", "control", "x"), ("PUBLISH", "h:another:x", "x"),
        ("EVAL", "return redis.call('GET', 'h:another:x')", "0"), ("EVALSHA", "0" * 40, "0"), ("SCRIPT", "LOAD", "x"),
        ("FCALL", "f", "0"), ("FUNCTION", "LOAD", "x"), ("SUBSCRIBE", "h:another:x"),
    ],
)  # fmt: skip
def test_a_host_cannot_reach_beyond_its_own_keys(login, command):
    with pytest.raises(redis.ResponseError, match=r"(?i)no permission|NOPERM|ACL"):
        login.execute_command(*command)


@pytest.mark.parametrize(
    "command", ["SET {} x", "LPUSH {} x", "SADD {} x", "HSET {} a b", "ZADD {} 1 a", "APPEND {} x"]
)
def test_a_host_fills_no_memory_with_keys_of_its_own(login, host, command):
    with pytest.raises(redis.ResponseError, match=r"(?i)no permission"):
        login.execute_command(*command.format(f"{orders.key_prefix(host)}test").split())


def test_a_host_learns_whether_a_bell_waits_for_it(login, host):
    assert login.llen(f"{orders.key_prefix(host)}{orders.queue(host)}") == 0


def test_who_does_not_read_what_it_asked_for_is_hung_up_on(login):
    """The server's own limit: no login can fill it with answers that wait."""
    with redis.Redis.from_url(settings.REDIS_URL) as control:
        assert int(control.config_get("maxmemory-clients")["maxmemory-clients"]) > 0
    connection = login.connection_pool.get_connection()
    connection.connect()
    one = connection.pack_command("PING", b"x" * 500_000)
    with pytest.raises((redis.ConnectionError, OSError)):  # noqa: PT012 - where it breaks differs
        connection._sock.settimeout(5)
        for _ in range(400):
            for chunk in one:
                connection._sock.sendall(chunk)
        connection._sock.setblocking(True)


def test_the_bell_reaches_a_celery_worker_that_has_only_this_login(host, url):
    heard = threading.Event()
    membership = SimpleNamespace(redis_url=url, key_prefix=orders.key_prefix(host), queue=orders.queue(host))
    app = celery_app(membership, SimpleNamespace(set_listening=bool), ring=heard.set, start=list)
    worker = app.Worker(
        pool="solo", queues=[orders.queue(host)], without_mingle=True, without_gossip=True, without_heartbeat=True,
        loglevel="ERROR",
    )  # fmt: skip
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    try:
        wait_until(lambda: bells.push(orders.queue(host), "host.look", prefix=orders.key_prefix(host), longest=1)
                   or heard.wait(0.5), seconds=20, what="the worker hears its bell")  # fmt: skip
    finally:
        worker.stop()
        thread.join(10)


def test_redis_learns_the_login_again_after_forgetting(host, login):
    with redis.Redis.from_url(settings.REDIS_URL) as control:
        control.execute_command("ACL", "DELUSER", redis_acl.username(host))
    with pytest.raises(redis.RedisError):
        login.ping()
    redis_acl.allow(host)
    assert login.ping()
