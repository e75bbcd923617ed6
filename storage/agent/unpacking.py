"""Compressed files unpacked, as a program of its own: `python -m storage.agent.unpacking SOURCE TARGET VIRTUAL_BYTES`.

Publishers compress disks with gzip, xz or zstd. Who made this one may be hostile: what is written is counted on the
way, and zeros become holes. It prints "progress DONE OF", in bytes of SOURCE, and at the end JSON: {} or
{"unfit": why not}.
"""

import gzip
import json
import lzma
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from storage.agent.inspection.common import MIB, Unfit, size_words

SIGNATURES = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
MAX_RATIO = 100  # of bytes that are no zeros to the file that they came in
SPARE_BYTES = 64 * MIB  # for tables, and for small files that unpack well
MAX_WINDOW_BYTES = 128 * MIB  # of zstd: what its own program takes unless it is told otherwise
PIECE = 1 << 20
ZSTD_PIECE = 4096  # unpacks to 128 MiB at most: a block of zstd has at least 4 bytes, and 128 KiB unpacked
HOLE = 64 << 10  # zeros in pieces of this size are not written

DAMAGED = "It cannot be unpacked to its end: it is damaged or was cut off. Compress or upload it again."


def compression(path: Path) -> str | None:
    """By what a file is compressed, as its first bytes say; None when it is not. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(max(len(signature) for signature in SIGNATURES))
    return next((kind for signature, kind in SIGNATURES.items() if head.startswith(signature)), None)


def max_bytes(virtual_bytes: int) -> int:
    """The size of the largest file that may hold a disk of this size."""
    return virtual_bytes + virtual_bytes // 1000 + SPARE_BYTES


def unpack(kind: str, source: Path, target: Path, virtual_bytes: int) -> None:
    """Write what is in `source` into a new sparse file. Raises Unfit or OSError."""
    packed, written = source.stat().st_size, 0
    try:
        with source.open("rb") as file, target.open("xb") as out:
            for number, piece in enumerate(_pieces(kind, file)):
                if out.tell() + len(piece) > max_bytes(virtual_bytes):
                    raise Unfit(
                        f"It unpacks to more than {size_words(virtual_bytes)}, which is what is allowed here. Make the "
                        "disk smaller, or ask an administrator for a higher limit."
                    )
                written += _write(out, piece)
                if written > packed * MAX_RATIO + SPARE_BYTES:
                    raise Unfit(
                        f"It unpacks to more than {MAX_RATIO} times its size ({size_words(packed)}). "
                        "Upload it less compressed, as qcow2 or raw."
                    )
                if number % 64 == 0:
                    print("progress", file.tell(), packed, flush=True)
            out.truncate()
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zstandard.ZstdError) as problem:
        raise Unfit(DAMAGED) from problem
    except MemoryError as problem:
        raise Unfit(
            "It needs too much memory to be unpacked. Compress it with a smaller window (xz -9 or zstd -19 at most)."
        ) from problem


def _write(out: BinaryIO, piece: bytes) -> int:
    """Write a piece at the end, zeros as holes; how many bytes are not zeros, in whole HOLEs."""
    written = 0
    for start in range(0, len(piece), HOLE):
        part = piece[start : start + HOLE]
        if part.count(0) == len(part):
            out.seek(len(part), os.SEEK_CUR)
        else:
            written += out.write(part)
    return written


def _pieces(kind: str, file: BinaryIO) -> Iterator[bytes]:
    if kind == "zstd":
        yield from _zstd(file)
        return
    with gzip.GzipFile(fileobj=file) if kind == "gzip" else lzma.LZMAFile(file, format=lzma.FORMAT_XZ) as unpacking:
        while piece := unpacking.read(PIECE):
            yield piece


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    """All frames. zstandard's own reader takes a file that was cut off for a whole one."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    frame = None
    while packed := file.read(ZSTD_PIECE):
        while packed:
            frame = frame or decompressor.decompressobj()
            unpacked = frame.decompress(packed)
            yield from (unpacked[start : start + PIECE] for start in range(0, len(unpacked), PIECE))
            packed = frame.unused_data
            if frame.eof:
                frame = None
    if frame:
        raise EOFError


def main(source: str, target: str, virtual_bytes: str) -> None:
    path = Path(source)
    said: dict[str, str] = {}
    try:
        kind = compression(path)
        assert kind
        unpack(kind, path, Path(target), int(virtual_bytes))
    except Unfit as problem:
        said = {"unfit": str(problem)}
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
