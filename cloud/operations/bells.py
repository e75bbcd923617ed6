"""Doorbells: Celery messages that say "look". They carry nothing worth losing, and never delay or fail the ringer.

A bell is pushed straight onto the queue's Redis list in Celery's message format (protocol 2), because one connection
then serves every host's key prefix, and because time-outs are ours: a Redis that is away costs a commit 0.2 s once,
and nothing for the next five.
"""

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterable
from functools import cache

import redis
import structlog
from django.conf import settings
from django.db import transaction

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 0.2
CIRCUIT_OPEN_SECONDS = 5
# Nobody needs more bells than this: what they point at is found by sweeping.
PUSH_UNLESS_LONG = "if redis.call('LLEN', KEYS[1]) < tonumber(ARGV[2]) then redis.call('LPUSH', KEYS[1], ARGV[1]) end"


class _Circuit:
    """Remembers that Redis is away, so that not every ringer finds out by itself."""

    def __init__(self) -> None:
        self._closed_again_at = 0.0
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._closed_again_at

    def trip(self) -> None:
        with self._lock:
            self._closed_again_at = time.monotonic() + CIRCUIT_OPEN_SECONDS


_circuit = _Circuit()


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
        retry=None,
    )


def message(task: str, args: Iterable[str], queue: str) -> str:
    """A Celery task message as kombu's Redis transport keeps it in a list."""
    task_id = str(uuid.uuid4())
    body = json.dumps([list(args), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": task_id,
                "root_id": task_id,
                "retries": 0,
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 1,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


def push(queue: str, task: str, *args: str, prefix: str = "", longest: int = 10_000) -> None:
    """Ring now, unless `longest` bells wait already. Never raises."""
    if _circuit.is_open:
        return
    try:
        _client().eval(PUSH_UNLESS_LONG, 1, f"{prefix}{queue}", message(task, args, queue), longest)
    except redis.RedisError as error:
        _circuit.trip()
        log.warning("bell.lost", queue=queue, error=str(error))


def ring(operation_id: uuid.UUID) -> None:
    """Tell a control worker, once this transaction has committed, that an operation is due."""
    transaction.on_commit(lambda: push("control", "operations.advance", str(operation_id)), robust=True)
