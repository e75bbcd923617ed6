"""Compressed qcow2 images as QEMU and the embedded emulator read them."""

import json
import os
import random
import subprocess

import pytest

from compute.agent.hypervisors.unicorn.board.qcow2 import Qcow2
from images import qcow2

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path):
    """5 MiB and a bit: zeros, text, and bytes that cannot be packed, beside each other."""
    noise = random.Random(1)
    pieces = [bytes(MIB), b"text " * 100_000, noise.randbytes(300_000), bytes(200_000), b"x", noise.randbytes(70_000)]
    raw = tmp_path / "raw"
    raw.write_bytes(b"".join(pieces).ljust(5 * MIB, b"\0") + b"end".ljust(512, b"\0"))
    qcow2.compress(raw, tmp_path / "packed")
    return raw, tmp_path / "packed"


def test_qemu_finds_it_sound_and_reads_what_was_there(disk, tmp_path):
    raw, packed = disk
    checked = subprocess.run(["qemu-img", "check", "--output=json", str(packed)], check=True, capture_output=True)
    said = json.loads(checked.stdout)
    assert said["check-errors"] == 0
    assert not said.keys() & {"corruptions", "leaks"}
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(packed), str(tmp_path / "back")], check=True)
    assert (tmp_path / "back").read_bytes() == raw.read_bytes()
    assert packed.stat().st_size < 1.5 * MIB


def test_the_embedded_emulator_reads_what_was_there(disk):
    raw, packed = disk
    opened = Qcow2(os.open(packed, os.O_RDONLY), read_only=True)
    content = bytearray(opened.size)
    opened.read(0, memoryview(content))
    assert content == raw.read_bytes()
