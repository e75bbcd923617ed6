"""For tests of storage: buckets of an S3 server that runs beside the tests, and something that holds a volume."""

import uuid
from collections.abc import Iterator

import pytest

from storage import holders
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


@pytest.fixture
def machine(monkeypatch):
    """What holds a volume: `rests` while it is stopped; `replaces_layers` also while it runs."""

    class Machine:
        kind, id, told, rests, replaces_layers = "machine", uuid.uuid4(), 0, True, False

        def tell(self, holder_id):
            self.told += 1

    one = Machine()
    kind = holders.HolderKind(
        one.kind, one.tell, lambda holder_id: None,
        rests=lambda holder_id: one.rests, replaces_layers=lambda holder_id: one.replaces_layers,
    )  # fmt: skip
    monkeypatch.setattr(holders, "_kinds", {one.kind: kind})
    return one
