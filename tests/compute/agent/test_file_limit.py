"""How large an emulator's files may become: for every part of a machine, and as its log goes on."""

import subprocess
from dataclasses import replace

import pytest

from agent import processes
from agent.jail import Jail
from agent.paths import Paths
from agent.processes import Process
from compute.agent import file_limit, suspension
from compute.agent.disks import BASE, GIB, Disk, Layer
from compute.agent.homes import Homes
from storage.agent import qcow2
from tests.hosts import make_spec

MIB = 1 << 20


@pytest.fixture
def home(tmp_path):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    home = Homes(paths).of(make_spec()["id"])
    home.directory.mkdir(parents=True)
    return home


@pytest.fixture
def process():
    child = subprocess.Popen(["prlimit", f"--fsize={4 * MIB}:", "--", "sleep", "600"])
    process = Process(child.pid, processes.start_time(child.pid))
    while process.file_limit() is None:
        assert child.poll() is None
    yield process
    child.kill()
    child.wait(10)


def test_the_largest_file_that_a_machine_can_need_decides(home, tmp_path):
    qcow2.create(tmp_path / "image", 7 * GIB)
    root = Disk(0, "root", (Layer(BASE, tmp_path / "image", "qcow2"), Layer("vda", home.disk, "qcow2")))
    own = replace(root, layers=root.layers[1:])
    volume = Disk(1, "volume", (Layer("vdb-1", tmp_path / "volume", "qcow2"),), size_bytes=9 * GIB)
    small, much_memory = make_spec(disk_gib=2), make_spec(disk_gib=2, memory_mib=10_240)
    for spec, disks, least in (
        (small, (own,), 2 * GIB),
        (small, (root,), 7 * GIB),
        (small, (root, volume), 9 * GIB),
        (much_memory, (own,), suspension.max_bytes(10_240)),
    ):
        assert least < file_limit.needed(spec, disks, home) < 2 * least + GIB, least
    home.console_log.write_bytes(b"x")
    before = file_limit.needed(small, (own,), home)
    with home.console_log.open("ab") as log:
        log.truncate(5 * GIB)
    assert file_limit.needed(small, (own,), home) == before + 5 * GIB - 1, "its log goes on where it ended"


def test_a_log_that_goes_on_has_room_and_a_hole_gives_none(process):
    file_limit.lift_for_log(process, 0, Jail(), None)
    assert process.file_limit() == 4 * MIB
    file_limit.lift_for_log(process, MIB, Jail(), None)
    assert process.file_limit() >= 5 * MIB


def test_one_that_has_ended_or_has_no_limit_is_left_alone(process):
    subprocess.run(["prlimit", f"--pid={process.pid}", "--fsize=unlimited:"], check=True)
    file_limit.lift(process, 8 * MIB, Jail(), None)
    assert process.file_limit() is None, "an emulator of an older release"
    process.kill()
    process.wait(10)
    file_limit.lift(process, 8 * MIB, Jail(), None)
