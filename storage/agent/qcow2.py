"""Files in the qcow2 format: making empty ones, over another file or over nothing, and reading how large one is.

QEMU's own tool makes them. A host with nothing but pip, where only the embedded emulator runs, has no such tool; there
the few clusters of an empty disk are written here. Source: QEMU's docs/interop/qcow2.txt.
"""

import os
import struct
from pathlib import Path

from agent import folders
from agent.durability import sync_file
from agent.errors import YOU, Refused
from storage.agent import qemu_img

FORMATS = ("raw", "qcow2")
MAGIC, VERSION, CLUSTER_BITS, REFERENCE_COUNT_ORDER = 0x514649FB, 3, 16, 4
CLUSTER = 1 << CLUSTER_BITS
LAZY_REFERENCE_COUNTS = 1
LEVEL_1_AT = 3 * CLUSTER  # in what is written here: after the header and two clusters of reference counts
SIZE_AT = 24  # of a header: the size, whether it is encrypted, and the number of entries of the level-1 table
HEADER = struct.Struct(">IIQIIQIIQQIIQQQQII")
EXTENSION_BACKING_FORMAT, EXTENSION_END = 0xE2792ACA, 0
FEATURES_AT, DIRTY = 72, 1  # of a header of version 3: the incompatible features, and the one that we may have


def create(path: Path, size: int, base: Path | None = None, base_format: str = "") -> None:
    """Make an empty disk of `size` bytes, over `base` if there is one, durably. Raises Refused or OSError."""
    if base and base_format not in FORMATS:
        raise Refused(f"an image of the format {base_format} cannot be a base", fix_by=YOU)
    if qemu_img.is_there():
        qemu_img.run(qemu_img.create(path, size, below=base, below_format=base_format))
    else:
        write(path, size, base, base_format)
    sync_file(path)


def grow(path: Path, size: int) -> None:
    """Make one of our own files that no emulator has open at least `size` bytes large, durably. Raises Refused, also
    if a guest has changed its header, or OSError."""
    if size_of_layer(path) >= size:
        return
    if qemu_img.is_there():
        qemu_img.run(qemu_img.resize(path, size))
    else:
        rewrite_size(path, size)
    sync_file(path)


def virtual_size(path: Path, image_format: str) -> int:
    """What size a guest sees, in bytes, of an image whose format is known. Raises Refused or OSError."""
    if image_format == "raw":
        return path.stat().st_size
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    if image_format != "qcow2" or len(header) < HEADER.size or HEADER.unpack(header)[0] != MAGIC:
        raise Refused(f"the image's disk is no {image_format} image that a machine can have", fix_by=YOU)
    return int(HEADER.unpack(header)[5])


def size_of_layer(path: Path) -> int:
    """The bytes that a guest sees of one of our own files, by its header. Raises Refused if a guest has changed it.

    An emulator can write the header of its active layer, and may have been taken over by its guest.
    """
    with path.open("rb") as file:
        head = file.read(80)
    if len(head) < 80 or struct.unpack_from(">I", head)[0] != MAGIC:
        raise Refused(f"the layer {path.stem} is damaged: it is no qcow2")
    _, version, _, _, _, size, encryption = struct.unpack_from(">IIQIIQI", head)
    (features,) = struct.unpack_from(">Q", head, FEATURES_AT) if version == VERSION else (0,)
    if version not in (2, VERSION) or encryption or features & ~DIRTY:
        raise Refused(f"the layer {path.stem} has been tampered with: its header asks for what we never use")
    return int(size)


def name_below(path: Path) -> str:
    """The file that the header of one of our layers says that it lies on. Whoever could write it may have lied."""
    with path.open("rb") as file:
        head = file.read(CLUSTER)
    if len(head) < HEADER.size:
        return ""
    _, _, name_at, length, *_ = HEADER.unpack_from(head)
    return os.fsdecode(head[name_at : name_at + length])


def write(path: Path, size: int, base: Path | None = None, base_format: str = "") -> None:
    """`create` without QEMU's tool, and not durable yet. Raises OSError."""
    level_1 = _entries(size)
    clusters = LEVEL_1_AT // CLUSTER + _clusters(level_1)
    # One cluster each: the header, the table of reference counts, the first block of them; then the level-1 table.
    with folders.create_file(path) as file:
        file.write(_header(size, level_1, base, base_format))
        file.seek(CLUSTER)
        file.write(struct.pack(">Q", 2 * CLUSTER))
        file.seek(2 * CLUSTER)
        file.write(struct.pack(">H", 1) * clusters)
        file.truncate(clusters * CLUSTER)


def rewrite_size(path: Path, size: int) -> None:
    """`grow` without QEMU's tool, and not durable yet: the level-1 table goes on in its last cluster, which is empty
    there. Raises Refused where it would need another cluster, or is not as `write` makes it, and OSError."""
    with os.fdopen(folders.open_file(path, os.O_RDWR), "r+b") as file:
        fields = HEADER.unpack(file.read(HEADER.size))
        cluster_bits, entries, at = fields[4], fields[7], fields[8]
        if (cluster_bits, at) != (CLUSTER_BITS, LEVEL_1_AT) or _clusters(_entries(size)) != _clusters(entries):
            raise Refused("the disk cannot grow: that needs qemu-img, which is not installed on the host")
        file.seek(SIZE_AT)
        file.write(struct.pack(">QII", size, 0, _entries(size)))  # size, encryption, entries: one write


def _entries(size: int) -> int:
    """How many entries the level-1 table of a disk of `size` bytes has."""
    return -(-size // (CLUSTER * CLUSTER // 8))


def _clusters(entries: int) -> int:
    """How many clusters a level-1 table with so many entries takes."""
    return -(-entries * 8 // CLUSTER)


def _header(size: int, level_1: int, base: Path | None, base_format: str) -> bytes:
    extensions = b""
    if base:
        word = base_format.encode()
        extensions += struct.pack(">II", EXTENSION_BACKING_FORMAT, len(word)) + word + bytes(-len(word) % 8)
    extensions += struct.pack(">II", EXTENSION_END, 0)
    name = os.fsencode(base) if base else b""
    name_at = HEADER.size + len(extensions) if base else 0
    encryption = snapshots = snapshots_at = incompatible = autoclear = 0
    fields = [MAGIC, VERSION, name_at, len(name), CLUSTER_BITS, size, encryption, level_1, LEVEL_1_AT]
    fields += [CLUSTER, 1, snapshots, snapshots_at, incompatible, LAZY_REFERENCE_COUNTS, autoclear]
    return HEADER.pack(*fields, REFERENCE_COUNT_ORDER, HEADER.size) + extensions + name
