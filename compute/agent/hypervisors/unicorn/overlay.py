"""A machine's root disk without qemu-img: an empty qcow2 overlay, the same as QEMU would make.

Source: QEMU's docs/interop/qcow2.txt.
"""

import os
import shutil
import struct
from pathlib import Path

from agent import faults, folders
from agent.durability import sync_directory, sync_file
from agent.errors import Refused
from agent.system import MIN_FREE_BYTES
from compute.agent.hypervisors.base import Boot

MAGIC, VERSION, CLUSTER_BITS, REFERENCE_COUNT_ORDER = 0x514649FB, 3, 16, 4
CLUSTER = 1 << CLUSTER_BITS
LAZY_REFERENCE_COUNTS = 1
HEADER = struct.Struct(">IIQIIQIIQQIIQQQQII")
EXTENSION_BACKING_FORMAT, EXTENSION_END = 0xE2792ACA, 0

faults.declare("disk.before_create", "disk.before_rename")


def create(boot: Boot) -> None:
    """Make the root disk unless there is one: a machine's disk is never made twice. Raises Refused or OSError."""
    home = boot.home
    if folders.status(home.disk):
        return
    free = shutil.disk_usage(home.directory).free
    if free < MIN_FREE_BYTES:
        raise Refused(
            f"the host's disk is full: {free >> 20} MiB are free and {MIN_FREE_BYTES >> 20} MiB are kept free"
        )
    faults.reach("disk.before_create")
    new = home.disk.with_suffix(".new")
    new.unlink(missing_ok=True)
    size = int(boot.spec["disk_gib"]) << 30
    base = boot.files.get("disk")
    if base:
        declared = next(file["format"] for file in boot.spec["image"]["files"] if file["role"] == "disk")
        write(new, max(size, virtual_size(base, declared)), base, declared)
    else:
        write(new, size)
    faults.reach("disk.before_rename")
    new.rename(home.disk)
    sync_directory(home.directory)


def write(path: Path, size: int, base: Path | None = None, base_format: str = "") -> None:
    """Write an empty disk of `size` bytes, over `base` if there is one, and make it durable. Raises OSError."""
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
    sync_file(path)


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


def virtual_size(path: Path, image_format: str) -> int:
    """What size a guest sees, in bytes, of an image whose format is known. Raises Refused."""
    if image_format == "raw":
        return path.stat().st_size
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    if image_format != "qcow2" or len(header) < HEADER.size or HEADER.unpack(header)[0] != MAGIC:
        raise Refused(f"the image's disk is not a {image_format} image that the embedded emulator reads")
    return int(HEADER.unpack(header)[5])
