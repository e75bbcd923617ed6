"""Two hundred open pages: what they cost while nothing happens, and how soon each hears of what does."""

import selectors
import socket
import statistics
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil
import pytest
from django.db import transaction

from cloud.events.services import Actor, record
from tests import factories
from tests.benchmarks.measuring import line, percentile

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db(transaction=True)]
PAGES, PAGES_OF_ONE, SECONDS, EVENTS = 200, 10, 20, 20


class Pages:
    """The streams of open pages, each as a browser holds it."""

    def __init__(self, url: str, path: str, tokens: list[str]) -> None:
        self.selector = selectors.DefaultSelector()
        place = urlsplit(url)
        for token in tokens:
            connection = socket.create_connection((place.hostname, place.port))
            head = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nAccept: text/event-stream\r\n"
            connection.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
            self.selector.register(connection, selectors.EVENT_READ)

    def hear(self, word: bytes, seconds: float) -> list[float]:
        """When each page had heard a word, as far as they have within the time."""
        heard: dict[socket.socket, float] = {}
        kept: dict[socket.socket, bytes] = {}
        until = time.monotonic() + seconds
        while len(heard) < len(self.selector.get_map()) and (left := until - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                connection: socket.socket = key.fileobj  # type: ignore[assignment]
                content = connection.recv(65536)
                assert content, "a stream was cut"
                kept[connection] = (kept.get(connection, b"") + content)[-65536:]
                if connection not in heard and word in kept[connection]:
                    heard[connection] = time.monotonic()
        return list(heard.values())

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]


@pytest.fixture
def tokens() -> list[str]:
    project = factories.project("demo")
    people = [factories.member(project) for _ in range(PAGES // PAGES_OF_ONE)]
    return [factories.token(person) for person in people for _ in range(PAGES_OF_ONE)]


@pytest.fixture
def pages(servers, tokens) -> Iterator[Pages]:
    opened = Pages(servers.url, "/api/v1/projects/demo/events", tokens)
    assert len(opened.hear(b"200 OK", 30)) == PAGES
    yield opened
    opened.close()


def used(servers) -> float:
    """CPU seconds of web and streams."""
    both = [psutil.Process(servers.web.pid), psutil.Process(servers.streams.pid)]
    every = [*both, *(child for process in both for child in process.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in every)


def test_two_hundred_open_pages(servers, pages):
    time.sleep(2)
    before = used(servers)
    pages.hear(b"never said", SECONDS)
    share = (used(servers) - before) / SECONDS * 100
    line(f"{PAGES} open pages, idle", percent_of_a_core=share, each=share / PAGES, target="≤ 1 each")
    project = factories.project("other")
    demo = type(project).objects.get(name="demo")
    delays: list[float] = []
    before = used(servers)
    for number in range(EVENTS):
        began = time.monotonic()
        with transaction.atomic():
            record("tenancy.project.update", demo, actor=Actor("bench"), project_id=demo.pk, after={"n": f"n{number}."})
        heard = pages.hear(f'"n{number}."'.encode(), 5)
        assert len(heard) == PAGES
        delays += [moment - began for moment in heard]
    line(
        f"an event reaches all of {PAGES} pages",
        p50_ms=statistics.median(delays) * 1000,
        p99_ms=percentile(delays, 0.99) * 1000,
        most_ms=max(delays) * 1000,
        cpu_ms_an_event=(used(servers) - before) / EVENTS * 1000,
        target="≤ 1000 ms",
    )
