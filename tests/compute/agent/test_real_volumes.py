"""Volumes of real guests: what one wrote another one reads, whatever was killed in between."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from agent import faults
from agent.work import Work
from compute.agent.disks import Limits
from compute.agent.hypervisors.qemu.control import QemuControl
from storage.agent.conversion import argv_of_chain
from tests.compute.agent.test_plugging import GIB, Running, node  # noqa: F401
from tests.images.conftest import tiny_linux  # noqa: F401

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

# The commands that change what a disk stands on.
STEPS = ("add-fd", "blockdev-add", "blockdev-reopen", "blockdev-del", "remove-fd")
# Says which volume it has, and what is on it; the first one writes, whenever its volume begins with zeros.
WRITING = """#!/bin/sh
(
while sleep 0.2; do
    [ -b /dev/vdb ] || { echo NONE here >/dev/console; continue; }
    if [ -z "$(head -c 8 /dev/vdb | tr -d '\\0')" ]; then
        dd if=/dev/urandom of=/dev/vdb bs=1M count=8 conv=fsync 2>/dev/null
    fi
    blockdev --flushbufs /dev/vdb 2>/dev/null
    echo "SUM $(head -c 8388608 /dev/vdb | md5sum | cut -c 1-32)" >/dev/console
done
) &
"""


@pytest.fixture
def volume(node):  # noqa: F811
    layer = str(uuid.uuid4())
    node.machines.tools.layers.create(layer, GIB)
    return {
        "id": str(uuid.uuid4()), "slot": 1, "serial": uuid.uuid4().hex[:20], "read_only": False, "boot": False,
        "size_bytes": GIB, "chain": [layer], "base_image": None, "limits": None,
    }  # fmt: skip


@pytest.fixture
def start(node, control_plane, tiny_linux):  # noqa: F811
    image = json.loads((tiny_linux / "image.json").read_text())
    control_plane.files |= {file["sha256"]: tiny_linux / file["file"] for file in image["files"]}

    def one(user_data=WRITING, **spec):
        guest = Running(node, control_plane, image)
        guest.spec["seed"]["user_data"] = user_data
        guest.spec |= spec
        report = guest.order()
        assert (report["seen"], report["facts"].get("problem")) == ("running", None)
        return guest

    return one


def sum_of(guest):
    """The checksum that the guest says, twice the same after now."""
    before = len(re.findall(r"SUM \w{32}", guest.home.console_log.read_text(errors="replace")))
    deadline = time.monotonic() + 120
    while True:
        sums = re.findall(r"SUM (\w{32})", guest.home.console_log.read_text(errors="replace"))[before:]
        if len(sums) >= 2 and sums[-1] == sums[-2]:
            return sums[-1]
        assert time.monotonic() < deadline, guest.home.console_log.read_text(errors="replace")
        time.sleep(0.05)


def limits_of(guest):
    """What QEMU itself says of the first volume."""
    with guest.slots() as machine:
        return machine.look().disks[1].limits


def give(guest, *volumes):
    guest.spec["volumes"] = list(volumes)
    report = guest.order()
    assert (report["seen"], report["facts"].get("devices_problem")) == ("running", None)
    assert set(report["facts"]["volumes"]) == {volume["id"] for volume in volumes}
    return report


def test_what_one_guest_wrote_another_one_reads(start, node, volume):  # noqa: F811
    first = start()
    first.says("NONE here")
    give(first, volume)
    written = sum_of(first)
    second_layer = str(uuid.uuid4())
    emulator = node.record(first.spec["id"]).process
    before = emulator.file_limit()
    node.machines.tools.layers.create(second_layer, 2 * GIB, parent=volume["chain"][0])
    give(first, {**volume, "chain": [*volume["chain"], second_layer], "size_bytes": 2 * GIB})
    assert sum_of(first) == written
    assert before < 3 * GIB < emulator.file_limit(), "with a larger disk it may write a larger file"
    limited = {**volume, "chain": [*volume["chain"], second_layer], "size_bytes": 2 * GIB}
    give(first, {**limited, "limits": {"iops": 900, "bytes_per_second": 100 << 20}})
    assert limits_of(first) == Limits(900, 100 << 20)
    give(first, limited)
    assert limits_of(first) == Limits()
    give(first)
    first.says("NONE here")
    snapshot = {**volume, "id": str(uuid.uuid4()), "serial": "snapshot", "read_only": True}
    second = start(volumes=[snapshot])
    assert sum_of(second) == written
    os.kill(node.record(second.spec["id"]).process.pid, signal.SIGKILL)
    node.record(second.spec["id"]).process.wait(10)
    moved = {**volume, "chain": [*volume["chain"], second_layer], "size_bytes": 2 * GIB}
    second.spec["volumes"] = []
    assert second.order("ensure_stopped")["seen"] == "stopped"
    third = start(volumes=[moved])
    assert sum_of(third) == written


@pytest.mark.parametrize("point", ["plugging.before_plug", "plugging.after_plug"])
def test_a_worker_that_dies_while_it_plugs_leaves_it_to_the_next_one(start, node, volume, point, monkeypatch):  # noqa: F811
    guest = start()
    guest.says("NONE here")
    with monkeypatch.context() as patched:
        patched.setattr(
            faults, "reach", lambda name: (_ for _ in ()).throw(KeyboardInterrupt) if name == point else None
        )
        guest.spec["volumes"] = [volume]
        with pytest.raises(KeyboardInterrupt):
            guest.order()
    guest.control_plane.leased.clear()
    guest.generation -= 1
    give(guest, volume)
    sum_of(guest)


def test_a_guest_boots_from_a_volume_and_it_outlives_its_machine(start, node, volume, control_plane):  # noqa: F811
    """Its kernel comes from the image, and all that it keeps is on the volume."""
    guest = start(volumes=[])
    image = next(file for file in guest.spec["image"]["files"] if file["role"] == "disk")
    layer = str(uuid.uuid4())
    base = node.machines.tools.images.fetch(image, Work())
    node.machines.tools.layers.create(layer, GIB, base=(base, image["format"]))
    boot = {**volume, "slot": 0, "boot": True, "chain": [layer], "base_image": image}
    other = start(volumes=[boot], root={"volume": boot["id"]})
    other.says("READY web")
    assert not other.home.disk.exists()
    with other.slots() as machine:
        assert machine.look().disks[0].serial == boot["serial"]


# Writes behind what `WRITING` looks at, and reads it again.
VERIFYING = (
    WRITING
    + """(
until [ -b /dev/vdb ]; do sleep 0.2; done
n=0
while :; do
    dd if=/dev/urandom of=/tmp/piece bs=1M count=2 2>/dev/null
    dd if=/tmp/piece of=/dev/vdb bs=1M seek=$((16 + n % 8 * 2)) conv=fsync 2>/dev/null
    blockdev --flushbufs /dev/vdb
    found=$(dd if=/dev/vdb bs=1M skip=$((16 + n % 8 * 2)) count=2 2>/dev/null | md5sum)
    [ "$found" = "$(md5sum </tmp/piece)" ] || echo "VERIFIED wrongly" >/dev/console
    n=$((n + 1))
    echo "VERIFIED $n" >/dev/console
done
) &
"""
)


def test_layers_are_replaced_by_a_merged_one_while_a_guest_writes(start, node, volume, monkeypatch):  # noqa: F811
    """Whatever command to QEMU is the last of a worker that dies: the next one goes on."""
    guest = start(VERIFYING)
    layers = node.machines.tools.layers
    give(guest, volume)
    written = sum_of(guest)
    before = len(re.findall(r"SUM \w{32}", guest.home.console_log.read_text(errors="replace")))
    chain = list(volume["chain"])
    for _ in range(3):
        layer = str(uuid.uuid4())
        layers.create(layer, GIB, parent=chain[-1])
        chain.append(layer)
        give(guest, {**volume, "chain": list(chain)})
        guest.says(r"VERIFIED \d+")
    merged = str(uuid.uuid4())
    paths = [(layers.path(one), "qcow2") for one in chain[:-1]]
    layers.create_filled(merged, lambda new: subprocess.run(argv_of_chain(paths, new), check=True), format_="qcow2")
    emulator = node.record(guest.spec["id"]).process.pid

    def opened():
        files = []
        for one in os.scandir(f"/proc/{emulator}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile, such as a control connection
                files.append(os.readlink(one.path))
        return {Path(file).stem for file in files} & {merged, *chain}

    def changes_to(wanted, commands):
        """Whether all was done before so many commands had been given."""
        guest.spec["volumes"] = [{**volume, "chain": wanted}]
        left = iter(range(commands))
        execute = QemuControl.execute

        def dying(self, command, arguments=None):
            if command in STEPS and next(left, None) is None:
                raise KeyboardInterrupt
            return execute(self, command, arguments)

        with monkeypatch.context() as patched:
            patched.setattr(QemuControl, "execute", dying)
            try:
                report = guest.order()
            except KeyboardInterrupt:
                guest.control_plane.leased.clear()
                guest.generation -= 1
                return False
        assert report["facts"].get("devices_problem") is None, report["facts"]
        return True

    assert opened() == set(chain)
    short, commands = [merged, chain[-1]], 0
    wanted, other = short, list(chain)
    while not changes_to(wanted, commands):
        give(guest, {**volume, "chain": wanted})
        assert opened() == set(wanted), commands
        wanted, other = other, wanted
        commands += 1
    assert commands > 3
    give(guest, {**volume, "chain": short})
    assert opened() == set(short)
    for layer in chain[:-1]:
        layers.remove(layer)
    count = int(guest.says(r"VERIFIED (\d+)")[1])
    guest.says(f"VERIFIED (?!{count}\\b)")
    assert sum_of(guest) == written
    snapshot = str(uuid.uuid4())
    layers.create(snapshot, GIB, parent=chain[-1])
    give(guest, {**volume, "chain": [*short, snapshot]})
    assert sum_of(guest) == written
    console = guest.home.console_log.read_text(errors="replace")
    assert "VERIFIED wrongly" not in console
    assert set(re.findall(r"SUM (\w{32})", console)[before:]) == {written}, "at no moment was there anything else"


def test_a_volume_is_copied_while_its_guest_has_it(start, node, volume, tmp_path):  # noqa: F811
    guest = start()
    guest.says("NONE here")
    give(guest, volume)
    written = sum_of(guest)
    target = tmp_path / "copy"
    machine = guest.spec["id"]
    chain, worth = node.machines.copy_disk(machine, target, Work(), lambda *done: None, volume=volume["id"])
    assert ([path for path, _ in chain], worth) == ([target], "crash")
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", target, raw], check=True)
    with raw.open("rb") as file:
        assert hashlib.md5(file.read(8 << 20), usedforsecurity=False).hexdigest() == written
    give(guest)
    guest.says("NONE here")
