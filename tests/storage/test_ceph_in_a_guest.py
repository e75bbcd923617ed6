"""A disk of a real guest that is an image in a real Ceph cluster."""

import json
import uuid

import pytest

from agent.jail import Jail
from storage.agent.ceph import Clusters
from storage.agent.rbd import Images
from tests.clouds import wait_until
from tests.compute.agent.test_plugging import GIB, LOOKING, Running, node  # noqa: F401
from tests.hosts import control_plane, open_home  # noqa: F401
from tests.images.conftest import tiny_linux  # noqa: F401

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

WRITES = """
(
until [ -b /dev/vdb ]; do sleep 0.1; done
echo written-by-a-guest >/dev/vdb && echo "WROTE $(head -c 18 /dev/vdb)" >/dev/console
) &
"""


@pytest.fixture
def guest(node, control_plane, tiny_linux):  # noqa: F811
    image = json.loads((tiny_linux / "image.json").read_text())
    control_plane.files |= {file["sha256"]: tiny_linux / file["file"] for file in image["files"]}
    guest = Running(node, control_plane, image)
    guest.spec["seed"]["user_data"] = LOOKING + WRITES
    return guest


def test_it_is_there_at_the_boot_goes_comes_and_grows_while_the_guest_runs(guest, ceph):
    paths, image = guest.node.paths, str(uuid.uuid4())
    ceph.lead_to(paths.home, "one")
    clusters = Clusters(paths, Jail())
    wait_until(clusters.facts)
    [pool] = clusters.facts()
    Images(clusters.get(pool)).create(image, GIB)
    volume = {
        "id": str(uuid.uuid4()), "slot": 1, "serial": "in-ceph", "read_only": False, "size_bytes": GIB,
        "chain": [image], "base_image": None, "limits": {"iops": 500, "bytes_per_second": None}, "ceph": pool,
    }  # fmt: skip
    assert plugged(guest, volume) == [volume["id"]]
    guest.says("HAS .*vdb=in-ceph:2097152:0 ")
    guest.says("WROTE written-by-a-guest")
    assert plugged(guest) == []
    guest.says("HAS (?!.*vdb)")
    assert "written.by.a.gue" in ceph.io(image, "read -v 0 16")
    for gib in (1, 2, 3):  # twice over a connection that takes the place of another one
        assert plugged(guest, volume | {"size_bytes": gib * GIB}) == [volume["id"]]
        guest.says(f"HAS .*vdb=in-ceph:{gib << 21}:0 ")
    assert plugged(guest) == []
    guest.says("HAS (?!.*vdb)")
    Images(clusters.get(pool)).remove(image)
    assert image not in ceph.images()


def plugged(guest, *volumes):
    """Order these disks; which are plugged in then."""
    guest.spec["volumes"] = list(volumes)
    facts = guest.order()["facts"]
    assert not facts.get("devices_problem"), facts
    return list(facts["volumes"])
