"""For tests of storage: buckets of an S3 server that runs beside the tests, and something that holds a volume."""

import uuid
from collections.abc import Iterator

import pytest

from storage import holders
from storage.agent.relays import end_all
from storage.services import volume_types
from tests.clouds import wait_until
from tests.storage import clouds, s3
from tests.storage.ceph_clouds import pools_of, reported


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


@pytest.fixture
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def two(cloud, ceph):
    """Two hosts with a key for the pool of the Ceph cluster."""
    clouds.kind_of(cloud)
    clouds.second(cloud)
    for number, user in (1, "one"), (2, "two"):
        ceph.lead_to(cloud.nodes[number - 1].paths.home, user)
        wait_until(lambda number=number: reported(cloud, number))
    yield cloud
    for node in cloud.nodes:
        for image in ceph.images():
            end_all(node.paths.home, image)


@pytest.fixture
def in_ceph(two):
    [pool] = pools_of(two.nodes[0])
    return clouds.do(volume_types.create, wished={"name": "ceph", "pool": uuid.UUID(pool)})


@pytest.fixture
def clusters(two):
    return two.nodes[0].kinds["volume"].layers.clusters
