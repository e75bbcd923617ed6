"""A host's Redis login, on the real server: enough for a Celery worker's bell, and for nothing outside its own keys."""

import hashlib
import threading
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from django.conf import settings

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
        ("EVAL", "return redis.call('GET', 'h:another:x')", "0"),
    ],
)  # fmt: skip
def test_a_host_cannot_reach_beyond_its_own_keys(login, command):
    with pytest.raises(redis.ResponseError, match=r"(?i)no permission|NOPERM|ACL"):
        login.execute_command(*command)


def test_a_host_may_use_its_own_keys(login, host):
    key = f"{orders.key_prefix(host)}test"
    assert login.set(key, "1", ex=5)
    assert login.get(key) == b"1"
    assert login.delete(key) == 1


def test_the_bell_reaches_a_celery_worker_that_has_only_this_login(host, url):
    heard = threading.Event()
    app = Celery("test-host", broker=url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        worker_enable_remote_control=False,
        broker_transport_options={"global_keyprefix": orders.key_prefix(host)},
        task_default_queue=orders.queue(host),
    )
    app.task(name="host.look")(heard.set)
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
