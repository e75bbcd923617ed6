"""Bells: never late, never loud. A Redis that is away costs a ringer next to nothing."""

import json
import subprocess
import sys
import time
import uuid
from datetime import timedelta

import pytest
import redis
from django.conf import settings
from django.db import transaction

from cloud.celery import app
from cloud.operations import bells
from cloud.operations.beat import Bells

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue():
    name = f"test.{uuid.uuid4()}"
    yield name
    with redis.Redis.from_url(settings.REDIS_URL) as connection:
        connection.delete(name)


@pytest.fixture
def away(settings, monkeypatch):
    """A Redis that nobody answers for."""
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    bells._client.cache_clear()
    monkeypatch.setattr(bells, "_circuit", bells._Circuit())
    yield
    bells._client.cache_clear()


def waiting(queue):
    with redis.Redis.from_url(settings.REDIS_URL) as connection:
        return [json.loads(text) for text in connection.lrange(queue, 0, -1)]


def test_bells_beyond_what_is_needed_are_not_hung_up(queue):
    for _ in range(5):
        bells.push(queue, "host.look", longest=1)
    (message,) = waiting(queue)
    assert message["headers"]["task"] == "host.look"


def loaded(program):
    """The modules that this program has in the end."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; print(*sys.modules)"],
        cwd=settings.BASE_DIR,
        check=True,
        stdout=subprocess.PIPE,
    )
    return done.stdout.decode().split()


def test_control_loads_neither_pages_nor_command_lines():
    modules = loaded("from cloud.control import worker; worker()")
    assert {"compute.workflows", "celery.worker"} <= set(modules)
    needless = ("cloud.urls", "prompt_toolkit", "urllib3", "django.test", "drf_spectacular.plumbing")
    assert not [name for name in modules if name.startswith(needless)]


def test_beat_loads_nothing_of_what_it_rings_for():
    modules = loaded("from cloud.beat import app; app.loader.init_worker(); app.finalize(); app.Beat")
    assert "celery" in modules
    needless = ("django.db.models", "compute", "storage", "network", "prompt_toolkit")
    assert not [name for name in modules if name.startswith(needless)]
    app.loader.import_default_modules()  # as control does, which has them all
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(app.tasks)


def test_a_bell_rings_on_commit_only(queue, monkeypatch):
    monkeypatch.setattr(bells, "push", lambda *args, **kwargs: heard.append(args))
    heard, operation = [], uuid.uuid4()
    with transaction.atomic():
        bells.ring(operation)
        assert heard == []
    assert heard == [("control", "operations.advance", str(operation))]


def test_a_commit_hardly_notices_that_redis_is_away(away):
    began = time.monotonic()
    for _ in range(50):
        with transaction.atomic():
            bells.ring(uuid.uuid4())
    assert time.monotonic() - began < 5  # fifty that each waited for it would take longer


def test_beat_rings_for_everything_that_is_due_and_hangs_up_no_more_bells_than_needed(monkeypatch):
    rung = []
    monkeypatch.setattr(bells, "push", lambda queue, task, longest: rung.append((queue, task, longest)))
    scheduler = Bells(app=app)
    for entry in scheduler.schedule.values():
        entry.last_run_at -= timedelta(days=1)
    while scheduler.tick() == 0:
        pass
    assert sorted(rung) == sorted(("control", entry["task"], 100) for entry in settings.CELERY_BEAT_SCHEDULE.values())
    app.loader.import_default_modules()
    assert all(entry["task"] in app.tasks for entry in settings.CELERY_BEAT_SCHEDULE.values())
