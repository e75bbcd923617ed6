"""Empty disks: what QEMU's tool makes, and what is written where there is no such tool, are the same to a reader."""

import json
import os
import shutil
import subprocess

import pytest

from agent.errors import Refused
from compute.agent.hypervisors.unicorn.board.qcow2 import Qcow2
from storage.agent import qcow2


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


def test_a_base_of_another_format_is_refused(tool, tmp_path):
    with pytest.raises(Refused, match="format vmdk cannot be a base"):
        qcow2.create(tmp_path / "made", 1 << 30, tmp_path / "base", "vmdk")
    assert not (tmp_path / "made").exists()


def test_what_is_no_qcow2_image_has_no_size(tmp_path):
    (tmp_path / "disk").write_bytes(bytes(200))
    assert qcow2.virtual_size(tmp_path / "disk", "raw") == 200
    with pytest.raises(Refused, match="no qcow2 image"):
        qcow2.virtual_size(tmp_path / "disk", "qcow2")
