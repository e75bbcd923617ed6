"""Empty disks in the qcow2 format, over an image's disk or over nothing.

QEMU's own tool makes them. A host with nothing but pip, where only the embedded emulator runs, has no such tool; there
the few clusters of an empty disk are written by hand. Source: QEMU's docs/interop/qcow2.txt.
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path

from agent import folders
from agent.durability import sync_file
from agent.errors import Refused

FORMATS = ("raw", "qcow2")
MAGIC, VERSION, CLUSTER_BITS, REFERENCE_COUNT_ORDER = 0x514649FB, 3, 16, 4
CLUSTER = 1 << CLUSTER_BITS
LAZY_REFERENCE_COUNTS = 1
HEADER = struct.Struct(">IIQIIQIIQQIIQQQQII")
EXTENSION_BACKING_FORMAT, EXTENSION_END = 0xE2792ACA, 0
SECONDS_TO_CREATE = 60


def create(path: Path, size: int, base: Path | None = None, base_format: str = "") -> None:
    """Make an empty disk of `size` bytes, over `base` if there is one, durably. Raises Refused or OSError."""
    if base and base_format not in FORMATS:
        raise Refused(f"an image of the format {base_format} cannot be a base")
    if shutil.which("qemu-img"):
        _create_with_qemu(path, size, base, base_format)
    else:
        write(path, size, base, base_format)
    sync_file(path)


def virtual_size(path: Path, image_format: str) -> int:
    """What size a guest sees, in bytes, of an image whose format is known. Raises Refused or OSError."""
    if image_format == "raw":
        return path.stat().st_size
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    if image_format != "qcow2" or len(header) < HEADER.size or HEADER.unpack(header)[0] != MAGIC:
        raise Refused(f"the image's disk is no {image_format} image that a machine can have")
    return int(HEADER.unpack(header)[5])


def _create_with_qemu(path: Path, size: int, base: Path | None, base_format: str) -> None:
    # The child dies with the worker: an abandoned attempt must not write on under the next one.
    command = ["setpriv", "--pdeathsig", "KILL", "--", "qemu-img", "create", "-q", "-f", "qcow2"]
    command += ["-b", os.fspath(base), "-F", base_format] if base else []
    try:
        done = subprocess.run(  # noqa: S603
            [*command, os.fspath(path), str(size)],
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_CREATE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"qemu-img: {error}") from error
    if done.returncode != 0:
        raise Refused(f"qemu-img: {done.stderr.strip()[-500:]}")


def write(path: Path, size: int, base: Path | None = None, base_format: str = "") -> None:
    """`create` without QEMU's tool, and not durable yet. Raises OSError."""
    level_1 = -(-size // (CLUSTER * CLUSTER // 8))
    clusters = 3 + -(-level_1 * 8 // CLUSTER)
    # One cluster each: the header, the table of reference counts, the first block of them; then the level-1 table.
    with folders.create_file(path) as file:
        file.write(_header(size, level_1, base, base_format))
        file.seek(CLUSTER)
        file.write(struct.pack(">Q", 2 * CLUSTER))
        file.seek(2 * CLUSTER)
        file.write(struct.pack(">H", 1) * clusters)
        file.truncate(clusters * CLUSTER)


def _header(size: int, level_1: int, base: Path | None, base_format: str) -> bytes:
    extensions = b""
    if base:
        word = base_format.encode()
        extensions += struct.pack(">II", EXTENSION_BACKING_FORMAT, len(word)) + word + bytes(-len(word) % 8)
    extensions += struct.pack(">II", EXTENSION_END, 0)
    name = os.fsencode(base) if base else b""
    name_at = HEADER.size + len(extensions) if base else 0
    encryption = snapshots = snapshots_at = incompatible = autoclear = 0
    fields = [MAGIC, VERSION, name_at, len(name), CLUSTER_BITS, size, encryption, level_1, 3 * CLUSTER]
    fields += [CLUSTER, 1, snapshots, snapshots_at, incompatible, LAZY_REFERENCE_COUNTS, autoclear]
    return HEADER.pack(*fields, REFERENCE_COUNT_ORDER, HEADER.size) + extensions + name
