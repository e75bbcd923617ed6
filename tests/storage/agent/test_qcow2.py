"""Empty disks: what QEMU's tool makes, and what is written where there is no such tool, are the same to a reader."""

import json
import os
import shutil
import subprocess

import pytest

from agent.errors import Refused
from compute.agent.hypervisors.unicorn.board.qcow2 import Qcow2
from storage.agent import qcow2

LEAKS = 3  # qemu-img check: nothing is wrong but that room is wasted


@pytest.fixture(params=["with QEMU's tool", "without"])
def tool(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr(shutil, "which", lambda name: None)


def info(path):
    command = ["qemu-img", "info", "--output=json", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def test_an_empty_disk_lies_over_its_base(tool, tmp_path):
    base = tmp_path / "base.raw"
    base.write_bytes(b"base".ljust(1 << 20, b"\0"))
    made = tmp_path / "made"
    qcow2.create(made, 3 << 30, base, "raw")
    said = info(made)
    assert said["virtual-size"] == qcow2.virtual_size(made, "qcow2") == 3 << 30
    assert (said["backing-filename"], said["backing-filename-format"]) == (str(base), "raw")
    assert subprocess.run(["qemu-img", "check", "-q", str(made)], check=False).returncode == 0
    opened = Qcow2(os.open(made, os.O_RDWR), read_only=False)
    opened.write(1 << 30, memoryview(b"written"))
    opened.close()
    read = subprocess.run(["qemu-io", "-r", "-c", "read -v 1G 7", str(made)], check=True, capture_output=True)
    assert b"written" in read.stdout


def test_a_disk_grows_and_keeps_what_is_on_it(tool, tmp_path):
    base = tmp_path / "base.raw"
    base.write_bytes(b"base".ljust(1 << 20, b"\0"))
    disk = tmp_path / "disk"
    qcow2.create(disk, 1 << 30, base, "raw")
    opened = Qcow2(os.open(disk, os.O_RDWR), read_only=False)
    opened.write((1 << 30) - 512, memoryview(b"before".ljust(512)))
    opened.close()
    qcow2.grow(disk, 40 << 30)
    qcow2.grow(disk, 2 << 30)
    assert info(disk)["virtual-size"] == qcow2.virtual_size(disk, "qcow2") == 40 << 30
    opened = Qcow2(os.open(disk, os.O_RDWR), read_only=False)
    opened.write(39 << 30, memoryview(b"behind".ljust(512)))
    opened.close()
    checked = subprocess.run(["qemu-img", "check", "-q", str(disk)], check=False)
    assert checked.returncode in (0, LEAKS), "the board may leave clusters unused that QEMU's tool has freed"
    for at, text in ((0, b"base"), ((1 << 30) - 512, b"before"), (39 << 30, b"behind")):
        read = subprocess.run(["qemu-io", "-r", "-c", f"read -v {at} 8", str(disk)], check=True, capture_output=True)
        assert text in read.stdout


def test_growth_that_needs_the_tool_says_so(monkeypatch, tmp_path):
    qcow2.create(tmp_path / "disk", 1 << 30)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Refused, match="needs qemu-img"):
        qcow2.grow(tmp_path / "disk", 5 << 40)


def test_a_base_of_another_format_is_refused(tool, tmp_path):
    with pytest.raises(Refused, match="format vmdk cannot be a base"):
        qcow2.create(tmp_path / "made", 1 << 30, tmp_path / "base", "vmdk")
    assert not (tmp_path / "made").exists()


def test_what_is_no_qcow2_image_has_no_size(tmp_path):
    (tmp_path / "disk").write_bytes(bytes(200))
    assert qcow2.virtual_size(tmp_path / "disk", "raw") == 200
    with pytest.raises(Refused, match="no qcow2 image"):
        qcow2.virtual_size(tmp_path / "disk", "qcow2")
