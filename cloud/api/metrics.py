"""What Prometheus reads. Requests are counted in files that all web processes share (PROMETHEUS_MULTIPROC_DIR)."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily

Samples = Iterable[tuple[tuple[str, ...], float]]

requests = Histogram(
    "pileus_http_request_seconds",
    "Time to answer a request, by route, method and status.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_gauges: dict[str, tuple[str, tuple[str, ...], Callable[[], Samples]]] = {}


def observe_request(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    """Note one request under its route's pattern: never under its path, of which there is no end."""
    route = request.resolver_match.route if request.resolver_match else "none"
    method = request.method if request.method in METHODS else "other"
    requests.labels(route, method, str(response.status_code)).observe(seconds)


def gauge(
    name: str, words: str, labels: tuple[str, ...] = ()
) -> Callable[[Callable[[], Samples]], Callable[[], Samples]]:
    """Registers a function that is asked at each scrape: `[(label values, number), …]`, out of one query."""

    def register(read: Callable[[], Samples]) -> Callable[[], Samples]:
        _gauges[name] = (words, labels, read)
        return read

    return register


class FromTheDatabase:
    """The registered gauges, read when they are asked for."""

    def collect(self) -> Iterator[Any]:
        for name, (words, labels, read) in _gauges.items():
            family = GaugeMetricFamily(name, words, labels=labels)
            for values, number in read():
                family.add_metric(values, number)
            yield family


def exposition() -> bytes:
    """The text of a scrape."""
    registry = CollectorRegistry()
    registry.register(FromTheDatabase())  # type: ignore[arg-type]
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)
    return generate_latest(registry) + generate_latest(REGISTRY)
