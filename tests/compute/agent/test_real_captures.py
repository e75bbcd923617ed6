"""Images of the disks of real guests: what one wrote the next one reads, and no guest stands still meanwhile."""

import json
import subprocess
import uuid

import pytest

from agent import faults
from storage.agent.images import Images
from tests.compute.agent.test_plugging import Running, node  # noqa: F401
from tests.images.conftest import tiny_linux  # noqa: F401

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

# Writes a file unless there is one, says what is in it, and then writes on for ever.
WRITING = """#!/bin/sh
(
file=/root/written
[ -s $file ] || { dd if=/dev/urandom of=$file.new bs=1M count=8 2>/dev/null; mv $file.new $file; sync; }
echo "SUM $(md5sum <$file | cut -c 1-32)" >/dev/console
n=0
while :; do
    n=$((n + 1))
    dd if=/dev/urandom of=/root/more-$((n % 8)) bs=1M count=1 conv=fsync 2>/dev/null
    echo "WROTE $n" >/dev/console
done
) &
"""


@pytest.fixture
def images(node, control_plane):  # noqa: F811
    """The host makes images, too; in the end they are cleared up."""
    node.tools.add(Images(node.tools))
    yield
    for entry in node.ledger.entries():
        if entry.type == "image":
            control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1, "image")
    node.look_once()


@pytest.fixture
def start(node, control_plane, tiny_linux, images):  # noqa: F811
    image = json.loads((tiny_linux / "image.json").read_text())
    control_plane.files |= {file["sha256"]: tiny_linux / file["file"] for file in image["files"]}

    def one(*files):
        kept = [file for file in image["files"] if file["role"] != "disk" or not files]
        guest = Running(node, control_plane, {**image, "files": [*kept, *files]})
        guest.spec["seed"]["user_data"] = WRITING
        report = guest.order()
        assert (report["seen"], report["facts"].get("problem")) == ("running", None)
        return guest

    return one


@pytest.fixture
def capture(node, control_plane, tmp_path):  # noqa: F811
    def make(guest, ident="", generation=1):
        spec = {
            "id": ident or str(uuid.uuid4()), "image": {}, "limits": {"virtual_bytes": 1 << 40},
            "source": {"kind": "machine", "type": "instance", "machine": guest.spec["id"]},
            "result": {"format": "qcow2"}, "declared_format": None,
        }  # fmt: skip
        control_plane.order("ensure_present", spec, generation, "image")
        node.look_once()
        report = control_plane.last(spec["id"])
        if report["seen"] != "present":
            return report["facts"], None
        [file] = report["facts"]["files"]
        path = tmp_path / file["sha256"]
        path.write_bytes(control_plane.imported[spec["id"], 0])
        subprocess.run(["qemu-img", "check", "-q", str(path)], check=True)
        control_plane.files[file["sha256"]] = path
        return report["facts"], file

    return make


def nothing_is_left(guest):
    with guest.slots() as machine:
        assert machine.look_at_copy(0) is None
        assert machine.look().disks[0].active == "vda"
        nodes = machine._monitor.execute("query-named-block-nodes", {"flat": True})
        assert not [node for node in nodes if "copy" in node["node-name"]]
        assert not [one for one in machine._monitor.execute("query-fdsets") if "copy" in str(one)]


def test_an_image_of_a_running_guest_has_what_it_wrote(start, capture):
    first = start()
    written = first.says(r"SUM (\w{32})")[1]
    first.says("WROTE 2")
    facts, file = capture(first)
    assert file, facts
    assert facts["found"]["consistency"] == "crash"
    nothing_is_left(first)
    count = int(first.says(r"WROTE (\d+)")[1])
    first.says(f"WROTE (?!{count}\\b)")  # it goes on
    second = start(file)
    assert second.says(r"SUM (\w{32})")[1] == written
    again, file_again = capture(second)  # of one that lies on an image, whose blocks are in the copy as well
    assert file_again, again
    assert second.order("ensure_stopped")["seen"] == "stopped"
    facts, file = capture(second)
    assert facts["found"]["consistency"] == "filesystem"
    third = start(file)
    assert third.says(r"SUM (\w{32})")[1] == written


@pytest.mark.parametrize("point", sorted(point for point in faults.POINTS if point.startswith("capture.")))
def test_a_worker_that_dies_meanwhile_leaves_it_to_the_next_one(start, capture, control_plane, point, monkeypatch):
    guest = start()
    guest.says(r"SUM (\w{32})")
    ident = str(uuid.uuid4())
    with monkeypatch.context() as patched:
        patched.setattr(
            faults, "reach", lambda name: (_ for _ in ()).throw(KeyboardInterrupt) if name == point else None
        )
        with pytest.raises(KeyboardInterrupt):
            capture(guest, ident)
    control_plane.leased.clear()
    control_plane.order("ensure_gone", {"id": ident}, 2, "image")
    guest.node.look_once()
    assert control_plane.last(ident)["seen"] == "gone"
    nothing_is_left(guest)
    facts, file = capture(guest)
    assert file, facts
    nothing_is_left(guest)


def test_a_guest_that_is_stopped_meanwhile_is_copied_as_it_is_then(start, capture, monkeypatch):
    guest = start()
    guest.says("WROTE 1")
    reach, stopped = faults.reach, []

    def stop(name):
        if name == "capture.after_begin" and not stopped:
            stopped.append(name)
            process = guest.node.record(guest.spec["id"]).process
            process.kill()
            process.wait(10)
        reach(name)

    monkeypatch.setattr(faults, "reach", stop)
    facts, file = capture(guest)
    assert file, facts
    assert stopped
