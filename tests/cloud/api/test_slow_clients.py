"""Clients that do not send, or do not read, cost others nothing: web has no thread and little memory for them."""

import contextlib
import socket
import statistics
import struct
import time
from pathlib import Path

import httpx
import psutil
import pytest

from cloud import arrivals
from cloud.web_worker import MAX_ARRIVING_BYTES, MAX_BODY_BYTES
from tests import factories
from tests.servers import wait_until, web_and_streams

pytestmark = pytest.mark.django_db(transaction=True)

SLOW = 200
HEAD = b"POST /api/v1/flavors HTTP/1.1\r\nHost: 127.0.0.1\r\n"
FORM = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
KINDS = {
    "nothing at all": b"",
    "half a head": b"GET /api/v1/projects HTTP/1.1\r\nHost: x\r\nX-A: ",
    "half a chunked body": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "half a body": HEAD + b"Content-Length: 1000\r\n\r\n{",
    "half a form": FORM + b"Content-Length: 1000\r\n\r\nusername=",
    "half a join": HEAD.replace(b"/api/v1/flavors", b"/agent/v1/join") + b"Content-Length: 1000\r\n\r\n{",
    "too large a body": HEAD + b"Content-Length: 100000000\r\n\r\n{",
    "an answer that ends the connection": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "a kept connection": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


def connections(url: str, count: int, sent: bytes) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    for _ in range(count):
        client = connect(url)
        stack.callback(reset, client)
        client.sendall(sent)
    return stack


def connect(url: str, seconds: float = 10) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), seconds)


def reset(client: socket.socket) -> None:
    """Close it so that the other end knows at once that nobody reads an answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def unread_bytes(url: str) -> int:
    """How much has come for web that it has not read, by the kernel's table of TCP sockets (IPv4)."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(port))


def p95(client: httpx.Client, count: int = 40) -> float:
    """Of `count` requests, in seconds."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        assert client.get("/me").status_code == 200
        times.append(time.perf_counter() - began)
    return statistics.quantiles(times, n=20)[-1]


def test_200_slow_clients_of_any_kind_leave_others_alone(servers, cloud_admin):
    with servers.client(factories.token(cloud_admin), timeout=10) as client:
        alone = p95(client)
        measured = {}
        for kind, sent in KINDS.items():
            with connections(servers.url, SLOW, sent):
                measured[kind] = min(p95(client) for _ in range(3))  # the machine may do other work for a moment
        print({kind: f"{seconds * 1000:.0f} ms" for kind, seconds in {"alone": alone, **measured}.items()})
        assert {kind: seconds for kind, seconds in measured.items() if seconds > max(5 * alone, 0.5)} == {}


def test_a_byte_a_second_is_cut_off_in_the_end(servers):
    """However it is dripped: the time is of the whole head, and not of a byte."""
    with connect(servers.url, 30) as client:
        began = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        client.settimeout(1)
        while time.monotonic() - began < arrivals.HEAD_SECONDS + 5:
            try:
                client.sendall(b"x")
                answer = client.recv(1000)
                break
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began > arrivals.HEAD_SECONDS - 1


def test_memory_of_what_is_half_sent_is_bounded(servers, cloud_admin):
    def resident() -> float:
        process = psutil.Process(servers.web.pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20

    before = resident()
    half = HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 900_000
    with contextlib.ExitStack() as stack, servers.client(factories.token(cloud_admin)) as client:
        for _ in range(100):
            one = stack.enter_context(connect(servers.url))
            with contextlib.suppress(OSError):  # it is one that gave way
                one.sendall(half)
        assert client.get("/me").status_code == 200
        assert resident() - before < 80  # of 90 that were sent, and their copies


@pytest.mark.parametrize("path", ["/sign-in", "/api/v1/flavors", "/agent/v1/join", "/nowhere", "/launch"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_a_body_that_is_too_large_is_413_everywhere_before_it_is_sent(servers, path, kind):
    with connect(servers.url, 5) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: 104857600\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_clients_that_read_no_answers_hold_no_thread_for_long(servers, cloud_admin):
    ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20
    with connections(servers.url, 20, ask), servers.client(factories.token(cloud_admin), timeout=30) as client:
        assert client.get("/me").status_code == 200


BAD_BODIES = {
    "a bad size": b"zz\r\nxx\r\n0\r\n\r\n",
    "a trailer called Trailer": b"2\r\n{}\r\n0\r\nTrailer x\r\n\r\n",
    "a chunk that is too short": b"5\r\n{}\r\n0\r\n\r\n",
    "an end within a chunk": b"5\r\n{}",
}


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_malformed_body_is_the_callers_fault(servers, method, body):
    with connect(servers.url) as client:
        head = f"{method} /api/v1/projects HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + body)
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(1000)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417),
    ],
)
def test_what_never_reaches_django_is_a_problem_too(servers, head, status):
    with connect(servers.url) as client:
        client.sendall(head)
        answer = client.recv(2000)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in answer


def test_a_client_that_waits_to_be_asked_is_asked(servers):
    with connect(servers.url) as client:
        client.sendall(HEAD + b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"{}")
        answer = client.recv(1000)
        while answer.startswith(b"HTTP/1.1 100 "):
            answer = answer.partition(b"\r\n\r\n")[2] or client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_client_that_gives_way_may_send_at_that_moment(servers):
    """Its event is found together with the one that ended it, and must not end the process."""
    (worker,) = psutil.Process(servers.web.pid).children()
    head = HEAD + f"Content-Length: {MAX_BODY_BYTES}\r\n\r\n".encode()
    half = MAX_BODY_BYTES - 200_000
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(servers.url)) for _ in range(MAX_ARRIVING_BYTES // half)]
        for client in clients:
            client.sendall(head + b"x" * half)
        clients[-1].sendall(b"x" * 90_000)  # it holds most, and gives way; its event comes last
        wait_until(lambda: unread_bytes(servers.url) == 0)
        worker.suspend()
        try:
            for client in clients:
                client.sendall(b"x" * 60_000)
        finally:
            worker.resume()
        assert clients[-1].recv(1000).startswith(b"HTTP/1.1 503 ")
        assert httpx.get(f"{servers.url}/healthz", trust_env=False).is_success
    assert [one.pid for one in psutil.Process(servers.web.pid).children()] == [worker.pid]


def test_a_stop_waits_for_no_slow_client(django_db_blocker):
    with (
        web_and_streams(django_db_blocker) as servers,
        connections(servers.url, 5, b"GET / HT"),
        connections(servers.url, 5, b""),
    ):
        time.sleep(0.2)
        began = time.monotonic()
        servers.web.terminate()
        servers.web.wait(20)
        assert time.monotonic() - began < 18
