"""Compressed files: what publishers make is unpacked as it was; what is made to do harm ends early, in words."""

import gzip
import lzma
import os
import random
import struct
import zlib
from pathlib import Path

import pytest
import zstandard

from storage.agent import unpacking
from storage.agent.inspection.common import MIB, Unfit

KINDS = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstandard.ZstdCompressor().compress}
CONTENT = random.Random(1).randbytes(300_000) + bytes(3 << 20) + b"end"
TERABYTE = 1 << 40


@pytest.fixture
def unpacked(tmp_path):
    """What comes out of these bytes."""

    def unpack(packed: bytes, virtual_bytes: int = TERABYTE) -> Path:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(packed)
        target.unlink(missing_ok=True)
        kind = unpacking.compression(source)
        assert kind
        unpacking.unpack(kind, source, target, virtual_bytes)
        return target

    return unpack


@pytest.fixture
def tight(monkeypatch):
    """Limits that a test reaches soon."""
    monkeypatch.setattr(unpacking, "SPARE_BYTES", MIB)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_compressed_comes_out_with_holes_for_zeros(kind, unpacked):
    made = unpacked(KINDS[kind](CONTENT))
    assert made.read_bytes() == CONTENT
    assert made.stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_several_parts_comes_out_whole(kind, unpacked):
    """As parallel compressors write it."""
    assert unpacked(KINDS[kind](CONTENT) + KINDS[kind](b"more")).read_bytes() == CONTENT + b"more"


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_at_the_end_count(kind, unpacked):
    assert unpacked(KINDS[kind](bytes(MIB))).stat().st_size == MIB


def test_a_frame_that_says_nothing_is_passed_over(unpacked):
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"note"
    assert unpacked(KINDS["zstd"](b"one") + skippable + KINDS["zstd"](b"two")).read_bytes() == b"onetwo"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [10, 1000, 100_000])
def test_a_file_that_was_cut_off_is_refused(kind, cut, unpacked):
    with pytest.raises(Unfit, match="damaged or was cut off"):
        unpacked(KINDS[kind](CONTENT)[:-cut])


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused(kind, unpacked):
    packed = bytearray(KINDS[kind](CONTENT))
    packed[5000:5010] = bytes(10)
    if kind == "zstd":
        packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(CONTENT))
        packed[-2] ^= 1
    with pytest.raises(Unfit, match="damaged or was cut off"):
        unpacked(bytes(packed))


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_a_compressed_file_is_no_part_of_the_disk(kind, unpacked):
    """xz ends where its stream does; the others would have to go on."""
    packed = KINDS[kind](CONTENT) + b"garbage!" * 64
    if kind == "xz":
        assert unpacked(packed).read_bytes() == CONTENT
    else:
        with pytest.raises(Unfit, match="damaged"):
            unpacked(packed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_of_data_ends_at_the_ratio(kind, unpacked, tight, tmp_path):
    with pytest.raises(Unfit, match="more than 100 times its size"):
        unpacked(KINDS[kind](b"\x55" * (64 * MIB)))
    assert (tmp_path / "target").stat().st_size < 64 * MIB


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_of_zeros_ends_at_the_size_and_takes_no_room(kind, unpacked, tight, tmp_path):
    with pytest.raises(Unfit, match="unpacks to more than 16 MiB"):
        unpacked(KINDS[kind](bytes(64 * MIB)), 16 * MIB)
    assert (tmp_path / "target").stat().st_size <= 18 * MIB
    assert (tmp_path / "target").stat().st_blocks == 0


def test_a_bomb_of_many_small_blocks_takes_little_memory(unpacked, tight):
    """The densest that zstd can be: 4 bytes for 128 KiB, a gigabyte in 32 KiB."""
    blocks = 8192
    header = b"\x28\xb5\x2f\xfd" + bytes([0b0000_0000, 0x38])  # no content size; a window of 128 KiB
    block = (128 << 10) << 3 | 1 << 1  # RLE
    bomb = header + (block.to_bytes(3, "little") + b"\x55") * blocks
    before = _peak()
    with pytest.raises(Unfit, match="more than 100 times its size"):
        unpacked(bomb)
    assert _peak() - before < 512 * MIB


def test_a_window_of_gigabytes_is_refused(unpacked):
    header = b"\x28\xb5\x2f\xfd" + bytes([0b0000_0000, 0xA8])  # 2 GiB
    with pytest.raises(Unfit, match="damaged"):
        unpacked(header + (8 << 3 | 1).to_bytes(3, "little") + b"12345678")


def test_a_gzip_bomb_in_members_ends(unpacked, tight):
    member = gzip.compress(b"\x55" * MIB)
    with pytest.raises(Unfit, match="more than 100 times its size"):
        unpacked(member * 40)


def test_only_the_formats_of_publishers_are_unpacked(tmp_path):
    for content in (b"BZh9", b"PK\x03\x04", b"QFI\xfb", b"", b"\x1f"):
        (tmp_path / "file").write_bytes(content)
        assert unpacking.compression(tmp_path / "file") is None


def test_a_header_alone_is_refused(unpacked):
    for head in (zlib.compress(b"", wbits=31)[:10], lzma.compress(b"")[:12], b"\x28\xb5\x2f\xfd"):
        with pytest.raises(Unfit, match="damaged or was cut off"):
            unpacked(head)


def _peak() -> int:
    """The most memory that this process has had so far, in bytes."""
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
