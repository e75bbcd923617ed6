"""Blocks of disks, as backups have them: how one is known, and how it travels. Both sides have to agree on this."""

import hashlib

import zstandard

BLOCK_BYTES = 4 << 20
BLOCKS_IN_PART = (1 << 30) // BLOCK_BYTES
MAX_PACKED_BYTES = BLOCK_BYTES + (64 << 10)  # of one that cannot be compressed
ZEROS = bytes(BLOCK_BYTES)


class NotABlock(Exception):
    """These bytes are no packed block."""


def digest_of(block: bytes, key: bytes) -> str:
    """By what a block is known where this key is: 64 hexadecimal digits; "" for zeros, which are stored nowhere.

    Without the key nobody can tell whether a block that they have is the one that is meant.
    """
    return "" if block == ZEROS else hashlib.blake2b(block, key=key, digest_size=32).hexdigest()


def pack(block: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(block)


def unpack(packed: bytes) -> bytes:
    """The BLOCK_BYTES of a block. Whoever packed it may be hostile. Raises NotABlock."""
    try:
        if zstandard.frame_content_size(packed) != BLOCK_BYTES:  # otherwise it says how much memory is taken
            raise NotABlock("it does not say that it has the size of a block")
        unpacked = zstandard.ZstdDecompressor(max_window_size=2 * BLOCK_BYTES).decompress(
            packed, max_output_size=BLOCK_BYTES, allow_extra_data=False
        )
    except zstandard.ZstdError as problem:
        raise NotABlock(str(problem)) from problem
    if len(unpacked) != BLOCK_BYTES:
        raise NotABlock(f"it has {len(unpacked)} bytes")
    return unpacked
