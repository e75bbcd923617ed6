"""Disks and NICs that come and go while a real guest runs."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agent.errors import Refused
from compute.agent import disks
from compute.agent.disks import Disk, Layer, Limits
from compute.agent.hypervisors.qemu import control, slots
from compute.agent.nics import Nic
from storage.agent import qcow2
from tests.clouds import wait_until
from tests.compute.agent.virtual import QemuNode
from tests.hosts import make_spec
from tests.images.conftest import tiny_linux  # noqa: F401
from tests.network.agent import lab
from tests.network.agent.conftest import make_host  # noqa: F401

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

# Says what it has, as soon as that changes.
LOOKING = """#!/bin/sh
(
while sleep 0.1; do
    now="HAS"
    for d in /sys/block/vd?; do now="$now ${d##*/}=$(cat $d/serial):$(cat $d/size):$(cat $d/ro)"; done
    now="$now $(cat /sys/class/net/*/address | sort | tr '\\n' ' ')"
    [ "$now" = "$before" ] || echo "$now" >/dev/console
    before=$now
done
) &
"""
GIB = 1 << 30


@pytest.fixture
def node(control_plane, open_home):
    node = QemuNode(control_plane.url, open_home)
    yield node
    for entry in node.ledger.entries():
        control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1)
    node.look_once()
    assert node.ledger.entries() == []


class Running:
    """A Linux that says which disks and NICs it has."""

    def __init__(self, node, control_plane, image):
        self.node, self.control_plane = node, control_plane
        self.spec = make_spec("web", memory_mib=192, image=image)
        self.spec["seed"]["user_data"] = LOOKING
        self.home = node.machine(self.spec["id"]).home
        self.generation = 0

    def order(self, verb="ensure_running"):
        self.generation += 1
        self.control_plane.order(verb, self.spec, self.generation)
        self.node.look_once()
        return self.control_plane.last(self.spec["id"])

    @contextmanager
    def slots(self):
        with control.connect(self.home) as connection:
            yield connection.slots

    def says(self, pattern, seconds=120):
        """Wait until the last line of its kind is like this."""
        kind = pattern.split()[0]
        deadline = time.monotonic() + seconds
        while True:
            console = self.home.console_log.read_text(errors="replace")
            lines = re.findall(rf"{kind} [^\r\n]*", console)
            if lines and (found := re.search(pattern, lines[-1])):
                return found
            assert time.monotonic() < deadline, console
            time.sleep(0.02)


@pytest.fixture
def guest(node, control_plane, tiny_linux):  # noqa: F811
    image = json.loads((tiny_linux / "image.json").read_text())
    control_plane.files |= {file["sha256"]: tiny_linux / file["file"] for file in image["files"]}
    guest = Running(node, control_plane, image)
    assert guest.order()["seen"] == "running"
    guest.says("HAS .*vda=")
    return guest


def empty(path, size=GIB, base=None):
    qcow2.create(path, size, base, "qcow2")
    return path


def volume(slot, *layers, **more):
    named = [Layer(f"vd{'abcdefgh'[slot]}-{path.stem}", path, "qcow2") for path in layers]
    return Disk(slot, f"volume-{slot}", tuple(named), **more)


def plug(guest, disk):
    with disks.opened((disk,)) as (ready,), guest.slots() as machine:
        machine.plug_disk(ready)


def test_a_disk_comes_grows_is_snapshot_and_goes_while_the_guest_writes(guest, tmp_path):
    first, second = empty(tmp_path / "one.qcow2"), tmp_path / "two.qcow2"
    plug(guest, volume(1, first, limits=Limits(iops=500)))
    guest.says(r"HAS .*vdb=volume-1:2097152:0 ")
    with guest.slots() as machine:
        found = machine.look().disks[1]
        assert (found.serial, found.active, found.size_bytes) == ("volume-1", "vdb-one", GIB)
        assert found.limits == Limits(iops=500)
        machine.limit_disk(1, Limits(bytes_per_second=50_000_000))
        assert machine.look().disks[1].limits == Limits(bytes_per_second=50_000_000)
        machine.grow_disk(1, 2 * GIB)
    guest.says(r"HAS .*vdb=volume-1:4194304:0 ")
    empty(second, 2 * GIB, first)
    with disks.opened((volume(1, first, second),)) as (ready,), guest.slots() as machine:
        machine.put_layer_over(1, ready.layers[-1])
        assert machine.look().disks[1].active == "vdb-two"
        machine.grow_disk(1, 3 * GIB)
    guest.says(r"HAS .*vdb=volume-1:6291456:0 ")
    with guest.slots() as machine:
        machine.unplug_disk(1)
        assert set(machine.look().disks) == {0}
        nodes = machine._monitor.execute("query-named-block-nodes", {"flat": True})
        assert not [node for node in nodes if node["node-name"].startswith("vdb")]
        assert not [one for one in machine._monitor.execute("query-fdsets") if one["fds"][0].get("opaque") == "vdb-two"]
    guest.says(r"HAS (?!.*vdb)")
    plug(guest, volume(2, first, read_only=True))
    guest.says(r"HAS .*vd.=volume-2:\d+:1 ")
    for path in (first, second):
        subprocess.run(["qemu-img", "check", "-q", "-U", str(path)], check=True)


def test_a_nic_comes_and_goes(guest):
    nic = Nic("52:54:00:00:00:09", slot=3)
    with guest.slots() as machine:
        machine.plug_nic(nic, "web")
        assert machine.look().nics[3] == nic.mac
    guest.says(f"HAS .*{nic.mac}")
    with guest.slots() as machine:
        machine.unplug_nic(3)
        assert set(machine.look().nics) == {0}
        machine.plug_nic(replace(nic, mac="52:54:00:00:00:0a"), "web")
    guest.says("HAS .*52:54:00:00:00:0a")


def test_what_was_left_half_plugged_in_is_cleared_away(guest, tmp_path):
    disk = volume(1, empty(tmp_path / "one.qcow2"))
    with disks.opened((disk,)) as (ready,), guest.slots() as machine:
        machine._open(ready.layers[0], None, read_only=False)
        machine._monitor.execute("netdev_add", {"type": "user", "id": "nic1", "restrict": True})
    plug(guest, disk)
    with guest.slots() as machine:
        machine.plug_nic(Nic("52:54:00:00:00:09", slot=1), "web")
    guest.says("HAS .*vdb=volume-1.*52:54:00:00:00:09")


def test_a_guest_that_does_not_let_go_is_a_reason(guest, tmp_path, monkeypatch):
    plug(guest, volume(1, empty(tmp_path / "one.qcow2")))
    guest.says("HAS .*vdb")
    with control.connect(guest.home) as connection:
        connection.pause()
        with monkeypatch.context() as patched:
            patched.setattr(slots, "SECONDS_TO_LET_GO", 0.3)
            with pytest.raises(Refused, match="does not let go"):
                connection.slots.unplug_disk(1)
        connection.resume()
        connection.slots.unplug_disk(1)
    guest.says("HAS (?!.*vdb)")


def test_an_emulator_that_dies_with_a_disk_leaves_it_whole(guest, tmp_path):
    path = empty(tmp_path / "one.qcow2")
    plug(guest, volume(1, path))
    guest.says("HAS .*vdb")
    os.kill(guest.node.record(guest.spec["id"]).process.pid, signal.SIGKILL)
    guest.node.record(guest.spec["id"]).process.wait(10)

    def is_whole() -> bool:
        """Its lock goes with the last thread of the emulator, which may be a moment later."""
        check = ["qemu-img", "check", "-q", "-r", "leaks", str(path)]
        return subprocess.run(check, check=False, capture_output=True).returncode == 0

    wait_until(is_whole, 10, what="nobody has the disk, and it is whole")


HEARING = """#!/bin/sh
(
while sleep 0.2; do
    if [ -e /sys/class/net/eth1 ]; then
        if [ ! -e /tmp/asked ]; then
            touch /tmp/asked; ip link set eth1 up
            udhcpc -i eth1 -q -n -t 20 -s /usr/share/udhcpc/script >/dev/null 2>&1
        fi
        echo "HAS $(cat /sys/class/net/eth1/address) $(ip -4 -o addr show eth1 | awk '{print $4}')" >/dev/console
    else
        rm -f /tmp/asked
        echo "HAS none" >/dev/console
    fi
done
) &
"""


def test_a_nic_that_comes_gets_its_address_and_goes(node, control_plane, tiny_linux, make_host):  # noqa: F811
    networks = make_host(0)
    network = lab.network(networks, first="10.0.0.10", second="10.0.0.11")
    networks.apply(network)
    node.machines.tools = replace(node.machines.tools, plugs=networks.client)
    first, second = [
        {
            "port": port["id"], "slot": 2 * number, "network": network["network"]["id"], "mac": port["mac"],
            "mtu": 1500, "addresses": [f"10.0.0.1{number}/24"], "gateway": None, "dns": [],
        }
        for number, port in enumerate(network["ports"])
    ]  # fmt: skip
    image = json.loads((tiny_linux / "image.json").read_text())
    control_plane.files |= {file["sha256"]: tiny_linux / file["file"] for file in image["files"]}
    guest = Running(node, control_plane, image)
    guest.spec["seed"]["user_data"] = HEARING
    guest.spec["nics"], guest.spec["image"] = [first], {"id": "1", **image}
    assert guest.order()["seen"] == "running"
    guest.says("HAS none")
    for _ in range(2):
        guest.spec["nics"] = [first, second]
        report = guest.order()
        assert report["facts"]["nics"] == [first["port"], second["port"]]
        guest.says(f"HAS {second['mac']} 10.0.0.11/24")
        guest.spec["nics"] = [first]
        assert guest.order()["facts"]["nics"] == [first["port"]]
        guest.says("HAS none")
