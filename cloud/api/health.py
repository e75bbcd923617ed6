"""/healthz: the process is alive. /readyz: it can work, with each dependency. /metrics: for Prometheus."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST
from redis.backoff import NoBackoff
from redis.retry import Retry

from cloud.api import limits, metrics
from cloud.api.addresses import address, counted_as
from cloud.api.authentication import TokenAuthentication
from cloud.api.scope import Scope
from cloud.api.translate import plain_response
from cloud.problems import AdminsOnly, Problem, Unauthenticated

TIMEOUT = 0.5
WORKER_SILENCE_SECONDS = 15
READY_SECONDS = 1.0

log = logging.getLogger(__name__)
_asking = threading.Lock()
_lately: tuple[float, dict[str, dict[str, Any]]] = (-READY_SECONDS, {})


@require_safe
def alive(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "alive"})


class Away(Exception):
    """Something does not answer, in words for people."""


def check_database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '1s'")
        try:
            cursor.execute("SELECT current_setting('server_version')")
            return f"PostgreSQL {cursor.fetchone()[0]}"
        finally:
            cursor.execute("RESET statement_timeout")


def check_redis() -> str:
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    )
    with client:
        client.ping()
    return "healthy"


def check_streams() -> str:
    if not settings.STREAMS_SOCKET:
        raise Away("not configured (PILEUS_STREAMS_SOCKET)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(TIMEOUT)
        line.connect(settings.STREAMS_SOCKET)
    return "healthy"


def check_workers() -> str:
    """A control worker looks for due work every second, which PostgreSQL sees."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'pileus-control' AND state_change > now() - make_interval(secs => %s)
            """,
            [WORKER_SILENCE_SECONDS],
        )
        connections = cursor.fetchone()[0]
    if not connections:
        raise Away(f"no control worker was heard in the last {WORKER_SILENCE_SECONDS} s")
    return "healthy"


# Without the database nothing can be answered. Without the others the API still accepts, and work waits or is slower.
CHECKS: dict[str, tuple[Callable[[], str], bool]] = {
    "database": (check_database, True),
    "redis": (check_redis, False),
    "streams": (check_streams, False),
    "workers": (check_workers, False),
}


def dependencies() -> dict[str, dict[str, Any]]:
    """What each thing that the control plane needs says just now."""
    checks: dict[str, dict[str, Any]] = {}
    for name, (check, _) in CHECKS.items():
        began = time.perf_counter()
        try:
            words, ok = check(), True
        except Away as error:
            words, ok = str(error), False
        except Exception as error:
            log.warning("health.%s: %r", name, error)
            words, ok = f"does not answer ({type(error).__name__})", False
        checks[name] = {"ok": ok, "detail": words, "seconds": round(time.perf_counter() - began, 4)}
    return checks


def dependencies_lately() -> dict[str, dict[str, Any]]:
    """As `dependencies`, asked at most once a second: strangers may ask as often as they like."""
    global _lately  # noqa: PLW0603
    with _asking:
        if time.monotonic() - _lately[0] >= READY_SECONDS:
            checks = dependencies()
            _lately = (time.monotonic(), checks)
        return _lately[1]


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """200 while requests can be served (`ready`, or `degraded` when something is missing), otherwise 503."""
    checks = dependencies_lately()
    if not all(checks[name]["ok"] for name, (_, essential) in CHECKS.items() if essential):
        return JsonResponse({"status": "unavailable", "checks": checks}, status=503, headers={"Retry-After": "2"})
    status = "ready" if all(check["ok"] for check in checks.values()) else "degraded"
    return JsonResponse({"status": status, "checks": checks})


@require_safe
def scrape(request: HttpRequest) -> HttpResponse:
    """To tokens of admins of the cloud, wherever they come from: a proxy on this machine is no proof of anything."""
    try:
        _require_reader(request)
        return HttpResponse(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)
    except Problem as problem:
        return plain_response(problem, request)


def _require_reader(request: HttpRequest) -> None:
    try:
        found = TokenAuthentication().authenticate(request)  # type: ignore[arg-type]
    except Problem:
        verdict = limits.take(f"guess:{counted_as(address(request))}", rate=2, burst=60)
        if not verdict.allowed:
            raise verdict.refusal() from None
        raise
    if found is None:
        raise Unauthenticated("Send `Authorization: Bearer <token>` of an admin of the cloud; read-only will do.")
    user, token = found
    if not Scope(user, token).is_cloud_admin:
        raise AdminsOnly("This is for admins of the cloud.")


urlpatterns = [
    path("healthz", alive),
    path("readyz", ready),
    path("metrics", scrape),
]
