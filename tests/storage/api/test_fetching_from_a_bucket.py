"""Files of a bucket by a real web process: they pass through it, and slow clients hold no thread."""

import hashlib
import os
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from storage.models import ImageExport
from tests.servers import web_and_streams
from tests.storage.api.test_fetching import ask, project, token

pytestmark = pytest.mark.django_db(transaction=True)
__all__ = ["project", "token"]
MIB = 1 << 20
CONTENT = os.urandom(MIB) * 12
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def servers(s3_server, django_db_setup, django_db_blocker, tmp_path_factory):
    bucket = s3_server.make_bucket()
    s3_server.client.put_object(Bucket=bucket, Key=f"images/{SHA256}", Body=CONTENT)
    variables = {
        "PILEUS_IMAGE_STORE": f"s3://{bucket}/images",
        "PILEUS_IMAGE_UPLOADS": str(tmp_path_factory.mktemp("uploads")),
        **{f"PILEUS_S3_{name.upper()}": str(value) for name, value in s3_server.settings.items()},
        "PILEUS_S3_PATH_STYLE": "1",
    }
    with pytest.MonkeyPatch.context() as told:
        for name, value in variables.items():
            told.setenv(name, value)
        with web_and_streams(django_db_blocker) as running:
            yield running


@pytest.fixture
def export(project):
    return ImageExport.objects.create(
        project=project, name="guest.vdi", format="vdi", sources=[], size_gib=1, created_by="mia",
        image={"id": str(uuid4()), "name": "guest", "version": ""}, status=ImageExport.Status.READY,
        files=[{"sha256": SHA256, "size": len(CONTENT)}], expires_at=Now() + timedelta(hours=1),
    )  # fmt: skip


def test_a_file_comes_whole_or_in_part(servers, export, token):
    address = f"/projects/demo/exports/{export.pk}/content"
    with servers.client(token, timeout=60) as client:
        whole = client.get(address)
        part = client.get(address, headers={"Range": f"bytes={5 * MIB + 7}-{6 * MIB}"})
        head = client.head(address)
    assert (whole.status_code, hashlib.sha256(whole.content).hexdigest()) == (200, SHA256)
    assert (part.status_code, part.content) == (206, CONTENT[5 * MIB + 7 : 6 * MIB + 1])
    assert head.headers["Content-Length"] == str(len(CONTENT))


def test_slow_readers_hold_no_thread(servers, export, token):
    """Three times as many as web has threads; each takes nothing of what it has asked for, and at last one does."""
    lines = [ask(servers, export, token) for _ in range(12)]
    with servers.client(token, timeout=60) as client:
        assert client.get("/me").status_code == 200
    got, digest = lines[0].recv(65536), hashlib.sha256()
    _, _, body = got.partition(b"\r\n\r\n")
    while body:
        digest.update(body)
        body = lines[0].recv(1 << 18)
    assert digest.hexdigest() == SHA256
    for line in lines:
        line.close()
