"""qcow2, the format of QEMU. Source: docs/interop/qcow2.txt of QEMU."""

import struct

from storage.agent.inspection.common import MIB, Examined, Limits, Unfit, Window, check_size, check_table

MAGIC = b"QFI\xfb"
MAX_L1_BYTES = 32 * MIB
MAX_REFCOUNT_TABLE_BYTES = 8 * MIB
MAX_SNAPSHOTS = 64
MAX_SNAPSHOT_TABLE_BYTES = MIB
MAX_BITMAPS = 64
MAX_BITMAP_DIRECTORY_BYTES = MIB
MAX_EXTENSIONS = 64

DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
KNOWN_FEATURES = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2

ENCRYPTION_HEADER = 0x0537BE77
BITMAPS = 0x23852875
DATA_FILE_NAME = 0x44415441

_HAS_BACKING = (
    "It has a backing file: it holds only what differs from another image. Put both together first: "
    "qemu-img convert -O qcow2 OVERLAY.qcow2 WHOLE.qcow2"
)
_HAS_DATA_FILE = (
    "Its data is in another file. Put both together first: qemu-img convert -O qcow2 IMAGE.qcow2 WHOLE.qcow2"
)
_ENCRYPTED = "It is encrypted. Decrypt it first: a guest could not read its own disk here."


def examine(file: Window, limits: Limits) -> Examined:
    (magic, version, backing_offset, backing_size, cluster_bits, size, encryption, l1_size, l1_offset) = file.fields(
        ">4sIQIIQIIQ", 0, "header"
    )
    refcount_offset, refcount_clusters, snapshots, snapshots_offset = file.fields(">QIIQ", 48, "header")
    if magic != MAGIC:
        raise Unfit("It is no qcow2. Export it again.")
    if version not in (2, 3):
        raise Unfit(f"It is of version {version} of qcow2, and versions 2 and 3 are taken. Convert it with qemu-img.")
    if backing_offset or backing_size:
        raise Unfit(_HAS_BACKING)
    if encryption:
        raise Unfit(_ENCRYPTED)
    if not 9 <= cluster_bits <= 21:
        raise Unfit(f"Its clusters are of 2^{cluster_bits} bytes, which qcow2 does not allow. Export it again.")
    check_size(size, limits)
    features, header_length = _features(file) if version == 3 else (0, 72)
    cluster = 1 << cluster_bits
    l2_entries = cluster // (16 if features & EXTENDED_L2 else 8)
    check_table(l1_size, 8, MAX_L1_BYTES, "L1 table")
    if l1_size < -(-size // (cluster * l2_entries)):
        raise Unfit("Its L1 table is too short for its size: it is damaged. Export it again.")
    if l1_offset % cluster or refcount_offset % cluster:
        raise Unfit("Its tables do not begin at a cluster: it is damaged. Export it again.")
    file.holds(l1_offset, l1_size * 8, "L1 table")
    check_table(refcount_clusters, cluster, MAX_REFCOUNT_TABLE_BYTES, "refcount table")
    file.holds(refcount_offset, refcount_clusters * cluster, "refcount table")
    notes = [*_snapshots(file, snapshots, snapshots_offset), *_extensions(file, header_length, cluster)]
    return Examined(size, tuple(notes))


def _features(file: Window) -> tuple[int, int]:
    """The incompatible features and the length of a version 3 header."""
    features, _, _, refcount_order, header_length = file.fields(">QQQII", 72, "header")
    if features & DATA_FILE:
        raise Unfit(_HAS_DATA_FILE)
    if features & ~KNOWN_FEATURES:
        raise Unfit("It needs features of qcow2 that are not known here. Convert it with qemu-img to a plain qcow2.")
    if features & (DIRTY | CORRUPT):
        raise Unfit(
            "It was not closed cleanly, or is marked as corrupt. Shut its guest down, repair it with "
            "`qemu-img check -r all` and try again."
        )
    if refcount_order > 6 or not 104 <= header_length <= 512 or header_length % 8:
        raise Unfit("Its header is damaged. Export it again.")
    if features & COMPRESSION and (header_length < 112 or file.read(104, 1)[0] > 1):
        raise Unfit("It is compressed in a way that is not known here. Convert it with qemu-img to a plain qcow2.")
    return features, header_length


def _snapshots(file: Window, count: int, offset: int) -> list[str]:
    if not count:
        return []
    if count > MAX_SNAPSHOTS:
        raise Unfit(
            f"It has {count:,} internal snapshots, and {MAX_SNAPSHOTS} are allowed. Remove them: qemu-img snapshot -d"
        )
    position = offset
    for _ in range(count):
        _, _, id_size, name_size, _, _, _, _, extra = file.fields(">QIHHIIQII", position, "snapshot table")
        position = -(-(position + 40 + extra + id_size + name_size) // 8) * 8
        if position - offset > MAX_SNAPSHOT_TABLE_BYTES:
            raise Unfit("Its snapshot table is damaged. Remove the snapshots: qemu-img snapshot -d")
    return [f"Its present state is imported; its {count} internal snapshot{'s are' if count > 1 else ' is'} left out."]


def _extensions(file: Window, offset: int, cluster: int) -> list[str]:
    """Walk through the header's extensions and check that each is harmless."""
    notes: list[str] = []
    for _ in range(MAX_EXTENSIONS):
        if offset + 8 > min(cluster, file.size):
            return notes
        kind, length = file.fields(">II", offset)
        if kind == 0:
            return notes
        if kind == DATA_FILE_NAME:
            raise Unfit(_HAS_DATA_FILE)
        if kind == ENCRYPTION_HEADER:
            raise Unfit(_ENCRYPTED)
        if length > cluster:
            break
        if kind == BITMAPS:
            notes += _bitmaps(file, file.read(offset + 8, length, "header"))
        offset += 8 + -(-length // 8) * 8
    raise Unfit("The extensions of its header are damaged. Convert it with qemu-img to a plain qcow2.")


def _bitmaps(file: Window, content: bytes) -> list[str]:
    if len(content) < 24:
        raise Unfit("Its list of bitmaps is damaged. Remove them: qemu-img bitmap --remove")
    count, _, directory_size, directory_offset = struct.unpack_from(">IIQQ", content)
    if count > MAX_BITMAPS or directory_size > MAX_BITMAP_DIRECTORY_BYTES:
        raise Unfit(f"It has {count:,} bitmaps, and {MAX_BITMAPS} are allowed. Remove them: qemu-img bitmap --remove")
    file.holds(directory_offset, directory_size, "list of bitmaps")
    return ["Its dirty bitmaps are left out."]
