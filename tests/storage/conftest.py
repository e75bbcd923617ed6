"""Stores for tests of storage: folders, and buckets of an S3 server that runs beside the tests."""

from collections.abc import Iterator

import pytest

from tests.storage import s3


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.Server]:
    with s3.running() as server:
        yield server


@pytest.fixture
def in_buckets(s3_server, settings, tmp_path, monkeypatch) -> s3.Server:
    """The stores are in a bucket of the test's own: images with a prefix, backups with another."""
    name = s3_server.make_bucket()
    settings.S3 = s3_server.settings
    settings.IMAGE_STORE, settings.BACKUP_STORE = f"s3://{name}/images", f"s3://{name}/back/ups"
    settings.IMAGE_UPLOADS = str(tmp_path / "uploads")
    return s3_server
