"""The settings that UEFI keeps for a machine, such as which loader on its disk it starts, as a file of an image.

Hosts and the control plane share this. In an OVA of ours they are text, as no other program has a use for them.
"""

import base64
import binascii
import zlib

ROLE = "uefi-variables"  # of the file, and its name when a machine moves to another host
MAX_BYTES = 64 << 20  # the largest flash that firmware packages have
MAX_TEXT = 1 << 20


def to_text(content: bytes) -> str:
    """As it stands in a descriptor. Raises ValueError when that would be too long."""
    text = base64.b64encode(zlib.compress(content, 9)).decode()
    if not content or len(content) > MAX_BYTES or len(text) > MAX_TEXT:
        raise ValueError(f"UEFI settings of {len(content)} bytes, {len(text)} as text")
    return text


def from_text(text: str) -> bytes:
    """What `to_text` was given. Raises ValueError for what it never makes, before it takes much memory."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"{len(text)} characters of UEFI settings")
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
    except (binascii.Error, zlib.error) as problem:
        raise ValueError(str(problem)) from problem
    if not content or not reader.eof or reader.unused_data:
        raise ValueError("UEFI settings that are cut off, or too large")
    return content
