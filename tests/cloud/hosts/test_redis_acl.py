"""A host's Redis login, on the real server: enough for a Celery worker's bell, and for nothing outside its own keys."""

import hashlib
import select
import socket
import threading
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings

from agent.bells import celery_app
from cloud.events.models import Event
from cloud.hosts import connections, orders, redis_acl
from cloud.hosts.troubles import quarantined_hosts
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


@contextmanager
def connected(url, number):
    pool = redis.ConnectionPool.from_url(url)
    opened = [pool.get_connection() for _ in range(number)]
    yield opened
    for one in opened:
        one.disconnect()


def is_open(connection):
    try:
        connection.send_command("PING", check_health=False)
        return connection.read_response() == b"PONG"
    except (redis.RedisError, OSError):
        return False


def test_a_host_has_only_so_many_connections(host, url):
    """One host could take all that the server has. It is hung up on, nobody else is, and an admin is told."""
    with connected(url, redis_acl.MAX_CONNECTIONS) as opened:
        connections.limit()
        assert all(is_open(one) for one in opened)
        host.refresh_from_db()
        assert not host.quarantined
        with redis.Redis.from_url(settings.REDIS_URL) as control, connected(url, 1) as one_more:
            assert control.ping()
            before = control.connection_pool.get_connection()
            for _ in range(2):
                connections.limit()
            assert not any(is_open(one) for one in (*opened, *one_more))
            assert is_open(before)
    host.refresh_from_db()
    assert "more than 50 connections" in host.quarantined
    assert [case.words for case in quarantined_hosts()[1]] == [host.quarantined]
    assert Event.objects.filter(action="hosts.host.update", subject_id=str(host.pk)).count() == 1
    with redis.Redis.from_url(url) as login:
        assert login.ping()  # it hears its bells as before


def test_strangers_have_only_so_many_connections():
    """Whoever reaches the port could take all of them without a login."""
    address = settings.REDIS_URL.rpartition("@")[2].split("/")[0].split(":")
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(address, timeout=5))
            for _ in range(redis_acl.MAX_CONNECTIONS + 1)
        ]
        wait_until(lambda: connections.limit() or select.select(opened, [], [], 0.1)[0], what="they are hung up on")
        assert all(one.recv(1) == b"" for one in opened)


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
