"""Large files by a real web process: slow clients hold no thread, and go on where their line was cut."""

import hashlib
import os
import socket
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from storage.models import ImageExport
from tests import factories
from tests.servers import servers

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["servers"]
MIB = 1 << 20
SIZE = 40 * MIB


@pytest.fixture
def project(db):
    return factories.project("demo")


@pytest.fixture
def token(project):
    return factories.token(factories.member(project))


@pytest.fixture
def export(project):
    """A ready one of 40 MiB."""
    content = os.urandom(MIB) * (SIZE // MIB)
    sha256 = hashlib.sha256(content).hexdigest()
    folder = Path(os.environ["PILEUS_IMAGE_STORE"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / sha256).write_bytes(content)
    yield ImageExport.objects.create(
        project=project, name="guest.vdi", format="vdi", sources=[], size_gib=1, created_by="mia",
        image={"id": str(uuid4()), "name": "guest", "version": ""}, status=ImageExport.Status.READY,
        files=[{"sha256": sha256, "size": len(content)}], expires_at=Now() + timedelta(hours=1),
    )  # fmt: skip
    (folder / sha256).unlink(missing_ok=True)


def ask(servers, export, token, *lines):
    """A connection on which a download has been asked for, and nothing is read."""
    parts = urlsplit(servers.url)
    line = socket.create_connection((parts.hostname, parts.port), timeout=30)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    head = [f"GET /api/v1/projects/demo/exports/{export.pk}/content HTTP/1.1", "Host: 127.0.0.1"]
    line.sendall("\r\n".join([*head, f"Authorization: Bearer {token}", *lines, "", ""]).encode())
    return line


def test_a_large_file_comes_whole(servers, export, token):
    with servers.client(token, timeout=60) as client:
        answer = client.get(f"/projects/demo/exports/{export.pk}/content")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == export.files[0]["sha256"]
    assert answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Connection"] == "close"


def test_slow_readers_hold_no_thread(servers, export, token):
    """More of them than web has threads; each takes nothing of what it has asked for."""
    lines = [ask(servers, export, token) for _ in range(12)]
    began = time.monotonic()
    with servers.client(token) as client:
        assert client.get("/me").status_code == 200
    assert time.monotonic() - began < 15
    got, digest = lines[0].recv(65536), hashlib.sha256()
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    while body:
        digest.update(body)
        body = lines[0].recv(1 << 18)
    assert digest.hexdigest() == export.files[0]["sha256"]
    for line in lines:
        line.close()


def test_one_owner_does_not_take_all_connections(servers, export, token):
    lines = [ask(servers, export, token) for _ in range(16)]
    for line in lines:
        assert line.recv(100).startswith(b"HTTP/1.1 200")
    with servers.client(token) as client:
        assert client.get(f"/projects/demo/exports/{export.pk}/content").status_code == 429
    for line in lines:
        line.close()


def test_a_download_goes_on_where_its_line_was_cut(servers, export, token):
    with ask(servers, export, token) as line:
        assert line.recv(65536)
    with servers.client(token, timeout=60) as client:
        rest = client.get(
            f"/projects/demo/exports/{export.pk}/content",
            headers={"Range": f"bytes={SIZE - 3 * MIB}-", "If-Range": f'"{export.files[0]["sha256"]}"'},
        )
    assert rest.status_code == 206
    assert len(rest.content) == 3 * MIB

    assert hashlib.sha256(rest.content[:MIB] * (SIZE // MIB)).hexdigest() == export.files[0]["sha256"]
