"""VHD, the format of Virtual PC and old Hyper-V. Source: Microsoft's “Virtual Hard Disk Image Format Specification”.

QEMU knows a fixed one by its last 512 bytes only, and reads a differencing one as if it were whole.
"""

import struct

from storage.agent.inspection.common import MIB, SECTOR, Examined, Limits, Unfit, Window, check_size, check_table

COOKIE = b"conectix"
MAX_TABLE_BYTES = 64 * MIB
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
MAX_GEOMETRY = 65535 * 16 * 255
# These write the true size beside a rounded geometry; all others are sized by geometry, as in QEMU.
SIZED_BY_FOOTER = (b"win ", b"qem2", b"d2v ", b"tap\0", b"CXS")


def is_vhd(file: Window) -> bool:
    return file.head(8) == COOKIE or (file.size >= SECTOR and file.tail(SECTOR).startswith(COOKIE))


def examine(file: Window, limits: Limits) -> Examined:
    footer, copy = file.tail(SECTOR), file.read(0, SECTOR, "header")
    if not footer.startswith(COOKIE):
        raise Unfit("The footer at its end is missing: the file was cut off. Upload or export it again.")
    _check_sum(footer, 64, "footer")
    (kind,) = struct.unpack_from(">I", footer, 60)
    if kind == DIFFERENCING:
        raise Unfit("It is the difference to another disk, its parent. Merge both in Hyper-V or Disk Management first.")
    if kind not in (FIXED, DYNAMIC):
        raise Unfit(f"It is a VHD of an unknown kind ({kind}). Convert it to a dynamic VHDX.")
    size = _size(footer)
    check_size(size, limits)
    if kind == FIXED:
        file.holds(0, size, "data")
        return Examined(size)
    if not copy.startswith(COOKIE):
        raise Unfit("Its header is damaged. Export it again.")
    _check_sum(copy, 64, "header")
    if copy[40:64] != footer[40:64]:
        raise Unfit("Header and footer do not agree: it is damaged. Export it again.")
    (header_offset,) = struct.unpack_from(">Q", copy, 16)
    header = file.read(header_offset, 1024, "header of the dynamic disk")
    if not header.startswith(b"cxsparse"):
        raise Unfit("Its header is damaged. Export it again.")
    _check_sum(header, 36, "header of the dynamic disk")
    table_offset, _, entries, block = struct.unpack_from(">QIII", header, 16)
    if block < SECTOR or block & (block - 1):
        raise Unfit(f"Its blocks are of {block} bytes: it is damaged. Export it again.")
    check_table(entries, 4, MAX_TABLE_BYTES, "block table")
    if entries < -(-size // block):
        raise Unfit("Its block table is too short for its size: it is damaged. Export it again.")
    file.holds(table_offset, entries * 4, "block table")
    return Examined(size)


def _size(footer: bytes) -> int:
    current, cylinders, heads, sectors = struct.unpack_from(">QHBB", footer, 48)
    geometry = cylinders * heads * sectors
    if footer[28:32].startswith(SIZED_BY_FOOTER) or geometry == MAX_GEOMETRY:
        return int(current)
    return int(geometry * SECTOR)


def _check_sum(content: bytes, offset: int, what: str) -> None:
    (declared,) = struct.unpack_from(">I", content, offset)
    found = ~(sum(content) - sum(content[offset : offset + 4])) & 0xFFFFFFFF
    if found != declared:
        raise Unfit(f"The checksum of its {what} is wrong: it is damaged. Export it again.")
