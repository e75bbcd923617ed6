"""The rate limit: a bucket per token, or per address for strangers, in Redis; in this process while Redis is away.

The generic cell rate algorithm keeps one number a bucket, the time at which it will be full again, and takes one round
trip. Its clock is Redis's own.
"""

import math
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from cloud.problems import RateLimited

TIMEOUT = 0.2
CIRCUIT_OPEN_SECONDS = 5.0
MAX_LOCAL_BUCKETS = 10_000

# KEYS[1] bucket; ARGV: seconds a request costs, seconds the bucket holds. Answers {allowed, seconds until full}.
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + ARGV[1]
if full_at - now > tonumber(ARGV[2]) then
    return {0, tostring(full_at - ARGV[1] - now)}
end
redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', math.ceil((full_at - now) * 1000))
return {1, tostring(full_at - now)}
"""


@dataclass(frozen=True)
class Verdict:
    """What is left in a bucket after one request."""

    allowed: bool
    limit: int
    remaining: int
    reset: int  # seconds until it is full again
    retry_after: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }

    def refusal(self) -> RateLimited:
        return RateLimited(
            f"Wait {self.retry_after} s. Long polls (?wait=) and event streams are not counted: use them.",
            headers={**self.headers, "Retry-After": str(self.retry_after)},
        )


class Circuit:
    """Open for a while after Redis has failed: nobody waits for it meanwhile."""

    def __init__(self) -> None:
        self.closed_at = 0.0

    def is_open(self) -> bool:
        return time.monotonic() < self.closed_at

    def break_(self) -> None:
        self.closed_at = time.monotonic() + CIRCUIT_OPEN_SECONDS


KEYS = "rate:"  # what the names of all buckets begin with
circuit = Circuit()
_local: dict[str, float] = {}
_lock = threading.Lock()


@cache
def _client() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


@cache
def _script() -> Any:
    return _client().register_script(SCRIPT)


def trust(who: str, *, seconds: int) -> None:
    """Remember that somebody has proved who they are, so that they can have a bucket of their own for a time."""
    if not circuit.is_open():
        try:
            _client().set(f"trusted:{who}", 1, ex=seconds)
        except redis.RedisError:
            circuit.break_()


def is_trusted(who: str) -> bool:
    """Nobody is while Redis is away."""
    if not circuit.is_open():
        try:
            return bool(_client().exists(f"trusted:{who}"))
        except redis.RedisError:
            circuit.break_()
    return False


def take(bucket: str, *, rate: float | None = None, burst: int | None = None, times: int = 1) -> Verdict:
    """Take one request out of a bucket, or one that stands for several."""
    rate, burst = rate or settings.API_RATE_PER_SECOND, burst or settings.API_BURST
    cost, holds = times / rate, burst / rate
    allowed, until_full = _take(KEYS + bucket, cost, holds)
    remaining = max(0, math.floor((holds - until_full) * rate + 1e-6))
    retry_after = 0 if allowed else max(1, math.ceil(until_full + cost - holds))
    return Verdict(allowed, burst, remaining, math.ceil(until_full), retry_after)


def _take(key: str, cost: float, holds: float) -> tuple[bool, float]:
    if not circuit.is_open():
        try:
            allowed, until_full = _script()(keys=[key], args=[cost, holds])
            return bool(allowed), float(until_full)
        except redis.RedisError:
            circuit.break_()
    return _take_locally(key, cost, holds)


def _take_locally(key: str, cost: float, holds: float) -> tuple[bool, float]:
    now = time.monotonic()
    with _lock:
        if len(_local) > MAX_LOCAL_BUCKETS:
            _local.clear()
        full_at = max(_local.get(key, 0.0), now) + cost
        if full_at - now > holds:
            return False, full_at - cost - now
        _local[key] = full_at
        return True, full_at - now
