"""Large bodies by real web processes: no thread waits for them, they are bounded, and they go on later."""

import hashlib
import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from storage.models import Image, Upload
from tests import factories
from tests.servers import servers, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["servers"]
MIB = 1 << 20


@pytest.fixture
def project(db):
    return factories.project("demo")


@pytest.fixture
def token(project):
    return factories.token(factories.member(project))


def waiting(client, name="mine", **source):
    made = client.post("/projects/demo/images", json={"name": name, "source": {"kind": "upload", **source}})
    assert made.status_code == 201, made.text
    return made.json()["id"]


def file_of(image_id):
    return Path(os.environ["PILEUS_IMAGE_STORE"], "uploads", str(Upload.objects.get(image=image_id).pk))


def pieces(count, size=MIB):
    for number in range(count):
        yield bytes([number % 256]) * size


def connect(servers):
    parts = urlsplit(servers.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def head(image_id, token, length):
    return (
        f"PUT /api/v1/projects/demo/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("is_chunked", [True, False], ids=["in chunks", "with its length"])
def test_a_large_file_arrives_whole(servers, token, is_chunked):
    with servers.client(token, timeout=60) as client:
        image = waiting(client)
        content = pieces(40) if is_chunked else b"".join(pieces(40))
        sent = client.put(f"/projects/demo/images/{image}/file", content=content)
        assert (sent.status_code, sent.json()["status"]) == (202, "importing"), sent.text
    found = hashlib.sha256(file_of(image).read_bytes()).hexdigest()
    assert found == hashlib.sha256(b"".join(pieces(40))).hexdigest()


def test_slow_senders_hold_no_thread(servers, token):
    """More of them than web has threads; each has sent half of its file."""
    with servers.client(token) as client:
        lines = []
        for number in range(12):
            line = connect(servers)
            line.sendall(head(waiting(client, f"slow-{number}"), token, 2 * MIB) + b"x" * MIB)
            lines.append(line)
        began = time.monotonic()
        assert client.get("/me").status_code == 200
        assert time.monotonic() - began < 15
        image = Image.objects.get(name="slow-0").pk
        wait_until(lambda: file_of(image).stat().st_size == MIB)
        lines[0].sendall(b"y" * MIB)
        answer = lines[0].recv(65536)
        assert answer.startswith(b"HTTP/1.1 202"), answer
        for line in lines:
            line.close()


def test_a_sender_without_rights_is_refused_by_its_head(servers, token):
    with servers.client(token) as client:
        image = waiting(client)
    with connect(servers) as line:
        line.sendall(head(image, "pileus-nobody", 1 << 40))
        assert line.recv(65536).startswith(b"HTTP/1.1 401")


def test_more_than_announced_is_cut_off(servers, token):
    with servers.client(token) as client:
        image = waiting(client, size=2 * MIB)
        refused = client.put(f"/projects/demo/images/{image}/file", content=b"x" * (2 * MIB + 1))
        assert refused.status_code == 413
    with connect(servers) as line:
        chunked = head(image, token, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        line.sendall(chunked + b"300000\r\n" + b"x" * 0x200001)
        answer = line.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413"), answer
    assert not file_of(image).read_bytes()


def test_what_came_before_the_line_was_cut_counts_with_tus(servers, token):
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    with servers.client(token) as client:
        image = waiting(client, size=3 * MIB)
        with connect(servers) as line:
            patch = head(image, token, 3 * MIB).replace(b"PUT", b"PATCH").replace(b"/file", b"/upload/file").replace(
                b"\r\n\r\n", b"\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
                b"Content-Type: application/offset+octet-stream\r\n\r\n",
            )  # fmt: skip
            line.sendall(patch + b"a" * MIB)
            wait_until(lambda: file_of(image).exists() and file_of(image).stat().st_size == MIB)
            second = client.patch(
                f"/projects/demo/images/{image}/upload/file", content=b"b", headers={**tus, "Upload-Offset": str(MIB)}
            )
            assert (second.status_code, second.json()["retryable"]) == (409, True)
        wait_until(lambda: go_on(client, image, tus).status_code == 204)
    assert file_of(image).read_bytes() == b"a" * MIB + b"c" * 2 * MIB


def go_on(client: httpx.Client, image: str, tus: dict[str, str]) -> httpx.Response:
    where = f"/projects/demo/images/{image}/upload/file"
    offset = client.head(where, headers={"Tus-Resumable": "1.0.0"}).headers["Upload-Offset"]
    assert offset == str(MIB)
    return client.patch(where, content=b"c" * 2 * MIB, headers={**tus, "Upload-Offset": offset})
