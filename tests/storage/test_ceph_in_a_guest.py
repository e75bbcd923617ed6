"""A disk of a real guest that is an image in a real Ceph cluster."""

import json
import re
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from agent.jail import Jail
from compute.agent import silence
from compute.agent.hypervisors.qemu import control
from storage.agent import layers, relays
from storage.agent.ceph import Cluster, Clusters
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


@dataclass(frozen=True)
class Disk:
    """An image in Ceph, as a spec names it."""

    cluster: Cluster
    volume: dict[str, Any]


@pytest.fixture
def disk(guest, ceph):
    image = str(uuid.uuid4())
    ceph.lead_to(guest.node.paths.home, "one")
    clusters = Clusters(guest.node.paths, Jail())
    wait_until(clusters.facts)
    [pool] = clusters.facts()
    images = Images(clusters.get(pool))
    images.create(image, GIB)
    yield Disk(clusters.get(pool), {
        "id": str(uuid.uuid4()), "slot": 1, "serial": "in-ceph", "read_only": False, "size_bytes": GIB,
        "chain": [image], "base_image": None, "limits": None, "ceph": pool, "rbd": image, "keeps": None,
    })  # fmt: skip
    plugged(guest)
    images.remove(image)
    assert image not in ceph.images()


def test_it_is_there_at_the_boot_goes_comes_and_grows_while_the_guest_runs(guest, ceph, disk):
    volume = disk.volume | {"limits": {"iops": 500, "bytes_per_second": None}}
    assert plugged(guest, volume) == [volume["id"]]
    guest.says("HAS .*vdb=in-ceph:2097152:0 ")
    guest.says("WROTE written-by-a-guest")
    assert plugged(guest) == []
    guest.says("HAS (?!.*vdb)")
    assert "written.by.a.gue" in ceph.io(volume["rbd"], "read -v 0 16")
    for gib in (1, 2, 3):  # twice over a connection that takes the place of another one
        assert plugged(guest, volume | {"size_bytes": gib * GIB}) == [volume["id"]]
        guest.says(f"HAS .*vdb=in-ceph:{gib << 21}:0 ")
    assert plugged(guest) == []
    guest.says("HAS (?!.*vdb)")


def plugged(guest, *volumes):
    """Order these disks; which are plugged in then."""
    guest.spec["volumes"] = list(volumes)
    facts = guest.order()["facts"]
    assert not facts.get("devices_problem"), facts
    return list(facts["volumes"])


COUNTS = """
(
n=0
until [ -b /dev/vdb ]; do sleep 0.1; done
while sleep 0.2; do
    n=$((n+1))
    printf 'count-%06d' $n | dd of=/dev/vdb bs=512 seek=2048 conv=fsync 2>/dev/null
    echo "COUNT $n" >/dev/console
done
) &
"""


def counted(ceph, image, snapshot=""):
    said = ceph.io(image, "read -v 1M 16", snapshot=snapshot)
    return int(re.search(r"count.(\d{6})", said)[1])


def test_what_is_on_it_is_kept_while_its_guest_writes_on(guest, ceph, disk):
    guest.spec["seed"]["user_data"] = LOOKING + COUNTS
    images, volume, above = Images(disk.cluster), disk.volume, str(uuid.uuid4())
    image = volume["rbd"]
    plugged(guest, volume)
    guest.says(r"COUNT (\d\d|[3-9])")
    kept = volume | {"chain": [image, above], "keeps": image}
    guest.spec["volumes"] = [kept]
    told = guest.order()["facts"]["volumes"][volume["id"]]
    assert (told["active"], told.get("held_still")) == (above, None)
    assert list(images.kept(image)) == [image]
    was = counted(ceph, image, image)
    assert was >= 3
    wait_until(lambda: counted(ceph, image) > was + 3, told=lambda: f"{was} was kept")
    plugged(guest, kept)
    assert counted(ceph, image, image) == was
    images.forget(image, image)
    plugged(guest, kept)
    assert not images.kept(image), "an order that is done keeps nothing once more"


def test_it_is_detached_while_the_cluster_does_not_answer(guest, ceph, disk):
    """With writes on their way."""
    guest.spec["seed"]["user_data"] = LOOKING + COUNTS
    volume = disk.volume
    plugged(guest, volume)
    guest.says(r"COUNT (\d\d|[3-9])")
    with ceph.hanging():
        assert plugged(guest) == []
        guest.says("HAS (?!.*vdb)")
        assert not list(relays.find(guest.node.paths.home))
    assert counted(ceph, volume["rbd"]) >= 3
    assert plugged(guest, volume) == [volume["id"]]
    guest.says("HAS .*vdb=in-ceph:2097152:0 ")


def test_a_cluster_that_falls_silent_after_it_was_asked_freezes_no_guest(guest, ceph, disk, monkeypatch):
    """And what was cut off is attached anew once the cluster answers."""
    monkeypatch.setattr(control, "SECONDS_TO_ANSWER", 5.0)
    monkeypatch.setattr(silence, "SECONDS_TO_COME_BACK", 0.0)
    guest.spec["seed"]["user_data"] = LOOKING + COUNTS
    volume = disk.volume
    plugged(guest, volume)
    guest.says(r"COUNT (\d\d|[3-9])")
    ask, asked = layers.Layers.silent, []
    with ExitStack() as stack:

        def silent(*words):
            found = ask(*words)
            if not asked:
                asked.append(found)
                stack.enter_context(ceph.hanging())
                time.sleep(1.0)  # so that something is on its way
            return found

        monkeypatch.setattr(layers.Layers, "silent", silent)
        assert guest.order("ensure_paused")["seen"] == "paused"
        assert asked == [[]]
        assert not list(relays.find(guest.node.paths.home))
    assert guest.order()["seen"] == "running"
    assert plugged(guest) == []
    guest.says("HAS (?!.*vdb)")
    assert plugged(guest, volume) == [volume["id"]]
    guest.says("HAS .*vdb=in-ceph:2097152:0 ")
    assert plugged(guest) == []
