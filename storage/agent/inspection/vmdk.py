"""VMDK, the format of VMware: one file that holds everything. Source: VMware's “Virtual Disk Format 5.0”.

A descriptor may name other files, and QEMU opens whatever it names. So all but the two kinds of one file are refused,
and so is a header without a size, behind which QEMU looks for such a descriptor.
"""

import re
import struct

from storage.agent.inspection.common import (
    MIB,
    SECTOR,
    Examined,
    Limits,
    Unfit,
    Window,
    check_size,
    check_table,
    printable,
)

MAGIC = b"KDMV"
OLD_MAGIC = b"COWD"
SE_SPARSE_MAGIC = (0xCAFEBABE).to_bytes(8, "little")
DESCRIPTOR = b"# disk descriptorfile"
MAX_DESCRIPTOR_BYTES = MIB
MAX_TABLE_BYTES = 16 * MIB
AT_END = 0xFFFFFFFFFFFFFFFF
KINDS = ("monolithicsparse", "streamoptimized")
NO_PARENT = "ffffffff"
MARKER_FOOTER = 3

_EXTENT = re.compile(r'^(rw|rdonly|noaccess)\s+(\d+)\s+(\w+)(?:\s+"([^"]*)")?', re.IGNORECASE)
_VALUE = re.compile(r'^([\w.]+)\s*=\s*"?([^"]*?)"?$')
_TO_WHOLE = (
    "Export the machine as an OVA, or make one file: vmware-vdiskmanager -r DISK.vmdk -t 0 WHOLE.vmdk, or "
    "qemu-img convert -O vmdk DISK.vmdk WHOLE.vmdk"
)
_SNAPSHOT = "It is a snapshot: it holds only what differs from another disk. Consolidate it first. " + _TO_WHOLE


def is_descriptor(head: bytes) -> bool:
    return head[:2048].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(DESCRIPTOR) or b"createtype=" in head.lower()


def refuse_descriptor(file: Window) -> None:
    """Say what is wrong with a file that only names others. Raises Unfit, always."""
    extents, values = _parse(file.head(MAX_DESCRIPTOR_BYTES))
    if _has_parent(values):
        raise Unfit(_SNAPSHOT)
    names = [name for _, name in extents if name]
    if any("/" in name or "\\" in name or ".." in name for name in names):
        raise Unfit("It is a descriptor that names files outside of its folder. Nothing of them is read. " + _TO_WHOLE)
    if not names:
        raise Unfit("It is a VMDK descriptor that names no disk. " + _TO_WHOLE)
    listed = ", ".join(printable(name) for name in names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
    raise Unfit(f"It is only the descriptor of a disk, whose data is in other files: {listed}. {_TO_WHOLE}")


def refuse_extent() -> None:
    """Say what is wrong with a part of a disk of VMware ESXi. Raises Unfit, always."""
    raise Unfit("It is a part of a disk of VMware ESXi, of no use alone. " + _TO_WHOLE)


def examine(file: Window, limits: Limits) -> Examined:
    header = file.read(0, SECTOR, "header")
    fields = _header(header)
    version, flags, capacity, grain, descriptor_offset, descriptor_size, per_table, compression, directory = fields
    if version not in (1, 2, 3):
        raise Unfit(f"It is of version {version} of VMDK, and versions 1 to 3 are taken.")
    if not capacity:
        raise Unfit("Its header gives it no size, so that its data would be looked for elsewhere. " + _TO_WHOLE)
    if not descriptor_offset or not descriptor_size:
        raise Unfit("It is one part of a disk, without a descriptor. " + _TO_WHOLE)
    if descriptor_offset != 1 or descriptor_size * SECTOR > MAX_DESCRIPTOR_BYTES:
        raise Unfit("Its descriptor is at a wrong place or too long: it is damaged. Export it again.")
    check_size(capacity * SECTOR, limits)
    if grain < 1 or grain & (grain - 1) or grain * SECTOR > 2 * MIB or not 1 <= per_table <= 512:
        raise Unfit("Its grains are of a size that VMDK does not allow: it is damaged. Export it again.")
    if compression > 1:
        raise Unfit(f"It is compressed in a way that is not known here ({compression}). Export it again.")
    tables = -(-capacity // (grain * per_table))
    check_table(tables, 4, MAX_TABLE_BYTES, "grain directory")
    _check_descriptor(file.read(SECTOR, descriptor_size * SECTOR, "descriptor"))
    if directory == AT_END:
        directory = _footer(file, fields)
    file.holds(directory * SECTOR, tables * 4, "grain directory")
    return Examined(capacity * SECTOR)


def _header(content: bytes) -> tuple[int, ...]:
    """Version, flags, capacity, grain, offset and size of the descriptor, entries per table, compression, directory."""
    magic, version, flags, capacity, grain, offset, size, per_table, _, directory = struct.unpack_from(
        "<4sIIQQQQIQQ", content
    )
    if magic != MAGIC:
        raise Unfit("Its header is damaged. Export it again.")
    (compression,) = struct.unpack_from("<H", content, 77)
    return version, flags, capacity, grain, offset, size, per_table, compression, directory


def _footer(file: Window, header: tuple[int, ...]) -> int:
    """A stream ends in a footer, by which QEMU goes: it must say what the header says. Where the directory is."""
    marker = file.tail(3 * SECTOR)[:SECTOR]
    if len(marker) < SECTOR or struct.unpack_from("<QII", marker)[1:] != (0, MARKER_FOOTER):
        raise Unfit("The footer at its end is missing: the file was cut off. Upload or export it again.")
    footer = _header(file.tail(2 * SECTOR)[:SECTOR])
    if footer[:-1] != header[:-1] or footer[-1] == AT_END:
        raise Unfit("Header and footer do not agree: it is damaged or was made to do harm. Export it again.")
    return footer[-1]


def _check_descriptor(content: bytes) -> None:
    extents, values = _parse(content)
    _check_words_of_parents(content)
    kind = values.get("createtype", "")
    if not kind:
        raise Unfit("Its descriptor is missing or damaged. Export it again.")
    if kind.lower() not in KINDS:
        raise Unfit(f"It is of the kind {printable(kind)}, whose data is in other files. {_TO_WHOLE}")
    if _has_parent(values):
        raise Unfit(_SNAPSHOT)
    if len(extents) != 1 or extents[0][0].lower() != "sparse":
        raise Unfit("Its descriptor names other parts than itself. " + _TO_WHOLE)
    if "/" in extents[0][1] or "\\" in extents[0][1]:
        raise Unfit("Its descriptor names a file outside of its folder. Nothing of it is read. " + _TO_WHOLE)


def _check_words_of_parents(content: bytes) -> None:
    """Raises Unfit where QEMU would read a parent: it looks for these words anywhere, also in a comment or behind
    another value (block/vmdk.c, vmdk_parent_open and vmdk_read_cid)."""
    text = content.split(b"\0", 1)[0].lower()
    parents = text.split(b"parentcid=")[1:]
    if b"parentfilenamehint" in text or any(not parent.startswith(NO_PARENT.encode()) for parent in parents):
        raise Unfit(_SNAPSHOT)


def _parse(content: bytes) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The extents of a descriptor (kind, file) and its values, names in small letters."""
    text = content.split(b"\0", 1)[0].decode("utf-8", "replace")
    extents, values = [], {}
    for line in text.splitlines():
        if extent := _EXTENT.match(line.strip()):
            extents.append((extent[3], extent[4] or ""))
        elif value := _VALUE.match(line.strip()):
            values[value[1].lower()] = value[2]
    return extents, values


def _has_parent(values: dict[str, str]) -> bool:
    return values.get("parentcid", NO_PARENT).lower() != NO_PARENT or "parentfilenamehint" in values
