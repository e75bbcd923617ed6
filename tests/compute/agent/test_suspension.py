"""Pausing, suspending and going on: what the fake promises, kept by a real Linux under each hypervisor."""

import json
import re
import time
import uuid
from pathlib import Path

import pytest

from tests.compute.agent.unicorn.conftest import riscv_linux  # noqa: F401
from tests.compute.agent.virtual import QemuNode
from tests.hosts import make_spec
from tests.images.conftest import tiny_linux  # noqa: F401

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

COUNTING = "#!/bin/sh\n(n=0; while :; do n=$((n + 1)); echo TICK $n >/dev/console; sleep 0.1; done) &\n"


@pytest.fixture
def node(control_plane, open_home, monkeypatch):
    monkeypatch.setenv("PILEUS_UNICORN", "1")
    node = QemuNode(control_plane.url, open_home)
    yield node
    for entry in node.ledger.entries():
        control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1)
    node.look_once()
    assert node.ledger.entries() == []


@pytest.fixture(params=["qemu", "unicorn"])
def spec(request, control_plane):
    """A Linux that counts aloud, under one of the hypervisors."""
    folder: Path = request.getfixturevalue({"qemu": "tiny_linux", "unicorn": "riscv_linux"}[request.param])
    image = json.loads((folder / "image.json").read_text())
    control_plane.files |= {file["sha256"]: folder / file["file"] for file in image["files"]}
    spec = make_spec("web", hypervisor=request.param, architecture=image["architecture"], memory_mib=192, image=image)
    spec["seed"]["user_data"] = COUNTING
    return spec


class Told:
    """Orders for one machine, and what its guest counts meanwhile."""

    def __init__(self, node, control_plane, spec):
        self.node, self.control_plane, self.spec = node, control_plane, spec
        self.home = node.machine(spec["id"]).home
        self.generation = 0

    def order(self, verb, **changes):
        self.generation += 1
        self.control_plane.order(verb, {**self.spec, **changes}, self.generation)
        self.node.look_once()
        report = self.control_plane.last(self.spec["id"])
        assert report["generation"] == self.generation
        return report

    def console_with(self, text, seconds=120):
        deadline = time.monotonic() + seconds
        while text not in (console := self.home.console_log.read_bytes()):
            assert time.monotonic() < deadline, console.decode(errors="replace")
            time.sleep(0.02)
        return console

    def ticks(self):
        return [int(number) for number in re.findall(rb"TICK (\d+)\r", self.home.console_log.read_bytes())]

    def ticks_after(self, count, seconds=120):
        deadline = time.monotonic() + seconds
        while len(ticks := self.ticks()) <= count:
            assert time.monotonic() < deadline, self.home.console_log.read_bytes().decode(errors="replace")
            time.sleep(0.02)
        return ticks


def test_a_real_guest_stands_still_and_goes_on(node, control_plane, spec):
    machine = Told(node, control_plane, spec)
    assert machine.order("ensure_running")["seen"] == "running"
    machine.ticks_after(3)

    assert machine.order("ensure_paused")["seen"] == "paused"
    before = len(machine.ticks())
    time.sleep(0.5)
    assert len(machine.ticks()) == before
    assert machine.order("ensure_running")["seen"] == "running"
    machine.ticks_after(before + 3)

    report = machine.order("ensure_suspended")
    assert (report["seen"], report["facts"].get("problem")) == ("suspended", None)
    assert machine.home.saved.is_dir()
    assert node.record(spec["id"]).process is None
    before = len(machine.ticks())
    assert machine.order("ensure_suspended")["seen"] == "suspended"
    assert machine.order("ensure_running")["seen"] == "running"
    ticks = machine.ticks_after(before + 3)
    assert ticks == list(range(1, len(ticks) + 1)), "it went on, and did not boot"
    assert not machine.home.saved.exists()

    machine.order("ensure_suspended")
    assert machine.order("ensure_stopped")["seen"] == "stopped"
    assert not machine.home.saved.exists()


@pytest.mark.parametrize("spec", ["unicorn"], indirect=True)
def test_clones_of_a_real_guest_are_other_people(node, control_plane, spec):
    spec["seed"]["user_data"] = "#!/bin/sh\nip -o link show eth0 | sed 's/.*ether /MAC /'; echo I am $(hostname)\n"
    machine = Told(node, control_plane, spec)
    machine.order("ensure_running")
    machine.console_with(b"READY web")
    snapshot = str(uuid.uuid4())
    report = machine.order("ensure_running", snapshot=snapshot)
    assert (report["seen"], report["facts"]["snapshot"]) == ("running", snapshot)
    consoles, memories = [machine.console_with(b"READY web")], set()
    for number in range(2):
        other = make_spec(f"copy-{number}", **{name: spec[name] for name in ("hypervisor", "architecture", "image")})
        other |= {"memory_mib": spec["memory_mib"], "clone": {"machine": spec["id"], "snapshot": snapshot}}
        other["seed"]["user_data"] = spec["seed"]["user_data"]
        clone = Told(node, control_plane, other)
        assert clone.order("ensure_running")["seen"] == "running"
        console = clone.console_with(b"READY copy-%d" % number)
        assert b"I am copy-%d" % number in console
        assert console.count(b"READY") == 1
        assert not clone.home.saved.exists()
        maps = Path(f"/proc/{node.record(other['id']).process.pid}/maps").read_text()
        memories |= set(re.findall(r" (\d+) +/\S+/memory", maps))
        consoles.append(console)
    assert len(memories) == 1, "the clones share the snapshot's memory"
    for what in (rb"MAC ([0-9a-f:]{17})", rb"SSH host key (\S+ \S+)"):
        assert len({re.search(what, console).group(1) for console in consoles}) == 3, what
    machine.order("ensure_running")
    assert not list(machine.home.directory.glob("*snapshot*"))
    late = make_spec("late", **{name: spec[name] for name in ("hypervisor", "architecture", "image")})
    late["clone"] = {"machine": spec["id"], "snapshot": snapshot}
    assert "not on this host any more" in Told(node, control_plane, late).order("ensure_running")["facts"]["problem"]


@pytest.mark.parametrize("spec", ["unicorn"], indirect=True)
def test_what_was_written_down_by_another_version_is_refused_and_kept(node, control_plane, spec):
    machine = Told(node, control_plane, spec)
    machine.order("ensure_running")
    machine.order("ensure_suspended")
    state = machine.home.saved / "state.json"
    state.write_text(state.read_text().replace('"unicorn": "2.1.4"', '"unicorn": "2.0.0"'))
    report = machine.order("ensure_running")
    assert report["seen"] == "broken"
    assert "made by Unicorn 2.0.0" in report["facts"]["problem"]
    assert state.exists()
