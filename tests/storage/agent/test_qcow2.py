"""Empty disks: what QEMU's tool makes, and what is written where there is no such tool, are the same to a reader."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Refused
from compute.agent.hypervisors.unicorn.board.disk import open_disk
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


SECTOR, SECTORS = 512, (4 << 20) // 512 + 3  # a disk that ends within a cluster, larger than its base
writes = st.tuples(st.just("write"), st.integers(0, SECTORS - 1), st.integers(1, 300), st.integers(1, 255))
others = st.sampled_from([("flush",), ("close",), ("kill",)])


@given(st.lists(writes | writes | others, max_size=25))
@settings(max_examples=40, deadline=None)
def test_the_embedded_emulators_disk_is_as_qemu_reads_it(steps):
    """Whatever was written, and wherever its emulator was killed. What was not flushed before is as it was, or new."""
    with tempfile.TemporaryDirectory() as folder:
        base, disk, raw = (Path(folder, name) for name in ("base.raw", "disk", "raw"))
        base.write_bytes(b"base" * (1 << 18))
        qcow2.create(disk, SECTORS * SECTOR, base, "raw")
        content = bytearray(base.read_bytes().ljust(SECTORS * SECTOR, b"\0"))
        flushed = bytes(content)
        opened, handle = open_for_writing(disk, base)
        for step, *how in steps:
            if step == "write":
                start, count, byte = how
                end = min(start + count, SECTORS)
                content[start * SECTOR : end * SECTOR] = bytes([byte]) * ((end - start) * SECTOR)
                opened.write(start * SECTOR, memoryview(bytes([byte]) * ((end - start) * SECTOR)))
            elif step == "flush":
                opened.flush()
            elif step == "close":
                opened.close()
                opened, handle = open_for_writing(disk, base)
            else:
                os.close(handle)
                opened, handle = open_for_writing(disk, base)
                found = bytearray(len(content))
                opened.read(0, memoryview(found))
                for at in range(0, len(found), SECTOR):
                    there = found[at : at + SECTOR]
                    assert there in (content[at : at + SECTOR], flushed[at : at + SECTOR])
                content = found
            if step != "write":
                flushed = bytes(content)
        opened.close()
        assert subprocess.run(["qemu-img", "check", "-q", str(disk)], check=False).returncode in (0, LEAKS)
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True)
        assert raw.read_bytes() == content


def open_for_writing(disk, base):
    """As the embedded emulator has it, and the descriptor of the file."""
    handle = os.open(disk, os.O_RDWR)
    below = open_disk({"path": str(base), "format": "raw", "read_only": True})
    return Qcow2(handle, read_only=False, base=below), handle
