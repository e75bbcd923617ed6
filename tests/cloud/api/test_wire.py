"""Bodies on the wire, as gunicorn sees them: chunked, endless, of the wrong length."""

import json
import socket
import time

import pytest
from django.conf import settings
from django.db import connection

from compute.models import Flavor
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

SMALL = json.dumps({"name": "small", "vcpus": 1, "memory_mib": 64, "disk_gib": 1}).encode()


class Line:
    """A raw connection to web."""

    def __init__(self, servers, token: str):
        self.socket = socket.create_connection(("127.0.0.1", int(servers.url.rpartition(":")[2])), 10)
        self.token = token

    def head(self, *headers: str, path: str = "/api/v1/flavors") -> None:
        lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {self.token}",
                 "Content-Type: application/json", *headers, "", ""]  # fmt: skip
        self.socket.sendall("\r\n".join(lines).encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def chunk(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def answer(self) -> tuple[int, dict]:
        reader = self.socket.makefile("rb")
        status = int(reader.readline().split()[1])
        length = 0
        while line := reader.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = reader.read(length)
        return status, json.loads(body) if body.startswith(b"{") else {}


@pytest.fixture
def line(servers, cloud_admin):
    line = Line(servers, factories.token(cloud_admin))
    yield line
    line.socket.close()


def test_a_chunked_body_is_read(line):
    line.head("Transfer-Encoding: chunked")
    for at in range(0, len(SMALL), 7):
        line.chunk(SMALL[at : at + 7])
    line.chunk(b"")
    assert line.answer()[0] == 201
    assert Flavor.objects.get().name == "small"


def test_an_endless_body_is_refused_as_soon_as_it_is_too_long(line):
    line.head("Transfer-Encoding: chunked")
    began = time.monotonic()
    with pytest.raises(OSError):  # nobody reads on, in the end
        pour(line)
    assert time.monotonic() - began < 15


def pour(line: Line) -> None:
    for _ in range(1000):
        line.chunk(b" " * 65536)


def test_a_declared_length_beyond_the_limit_is_413_before_anything_is_sent(line):
    line.head(f"Content-Length: {settings.API_MAX_BODY_BYTES + 1}")
    status, problem = line.answer()
    assert (status, problem["code"]) == (413, "too_large")


def test_a_chunked_body_one_byte_too_long_is_413(line):
    line.head("Transfer-Encoding: chunked")
    line.chunk(b" " * settings.API_MAX_BODY_BYTES)
    line.chunk(b" ")
    line.chunk(b"")
    assert line.answer()[0] == 413


def test_without_a_length_there_is_no_body(line):
    line.head()
    status, problem = line.answer()
    assert (status, {fault["code"] for fault in problem["errors"]}) == (400, {"required"})


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "+5"])
def test_a_length_that_is_no_number_is_refused(line, length):
    line.head(f"Content-Length: {length}")
    assert line.answer()[0] == 400


def test_a_body_shorter_than_declared_changes_nothing(line):
    line.head(f"Content-Length: {len(SMALL) + 10}")
    line.send(SMALL)
    line.socket.shutdown(socket.SHUT_WR)
    assert line.answer()[0] == 400
    assert not Flavor.objects.exists()


def test_the_connection_serves_the_next_request(line):
    for name in ("one", "two"):
        body = SMALL.replace(b"small", name.encode())
        line.head(f"Content-Length: {len(body)}")
        line.send(body)
        assert line.answer()[0] == 201


def test_a_database_that_drops_everybody_costs_a_retry_at_most(servers, cloud_admin):
    """Each attempt finds another connection dead; the same key makes one object of all of them."""
    with servers.client(factories.token(cloud_admin)) as client:
        for number in range(10):
            body = {"name": f"size{number}", "vcpus": 1, "memory_mib": 64, "disk_gib": 1}
            drop_everybody()
            for _ in range(5):
                answer = client.post("/flavors", json=body, headers={"Idempotency-Key": body["name"]})
                if answer.status_code == 201:
                    break
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert answer.headers["Retry-After"]
            assert answer.status_code == 201
    assert Flavor.objects.count() == 10


def drop_everybody() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
