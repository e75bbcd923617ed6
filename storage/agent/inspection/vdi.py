"""VDI, the format of VirtualBox. Source: block/vdi.c of QEMU; VDICore.h of VirtualBox."""

import array
import sys

from storage.agent.inspection.common import MIB, Examined, Limits, Unfit, Window, check_size, check_table

SIGNATURE = (0xBEDA107F).to_bytes(4, "little")
SIGNATURE_OFFSET = 64
MAX_MAP_BYTES = 256 * MIB
DYNAMIC, FIXED = 1, 2
FIRST_SPECIAL_BLOCK = 0xFFFFFFFE  # two numbers say “zeros” and “not there”
_PIECE = MIB


def examine(file: Window, limits: Limits) -> Examined:
    signature, version, _, kind = file.fields("<4sIII", SIGNATURE_OFFSET, "header")
    if signature != SIGNATURE:
        raise Unfit("It is no VDI. Export it again.")
    if version != 0x00010001:
        raise Unfit(f"It is of version {version >> 16}.{version & 0xFFFF} of VDI, and 1.1 is taken.")
    if kind not in (DYNAMIC, FIXED):
        raise Unfit(
            "It is the difference to another disk, such as a snapshot's. Make it whole in VirtualBox: "
            "VBoxManage clonemedium disk DISK.vdi WHOLE.vdi"
        )
    map_offset, data_offset = file.fields("<II", 340, "header")
    (size,) = file.fields("<Q", 368, "header")
    block, _, blocks, allocated = file.fields("<IIII", 376, "header")
    link, parent = file.fields("<16s16s", 424, "header")
    if any(link) or any(parent):
        raise Unfit("It needs another disk, its parent. Make it whole: VBoxManage clonemedium disk DISK.vdi WHOLE.vdi")
    check_size(size, limits)
    if block != MIB:
        raise Unfit(f"Its blocks are of {block} bytes, and 1 MiB is taken. Clone it with VBoxManage clonemedium.")
    check_table(blocks, 4, MAX_MAP_BYTES, "block map")
    if blocks < -(-size // block) or allocated > blocks or map_offset % 512 or data_offset % 512:
        raise Unfit("Its header is damaged. Clone it with VBoxManage clonemedium.")
    file.holds(map_offset, blocks * 4, "block map")
    file.holds(data_offset, allocated * block, "data")
    _check_map(file, map_offset, blocks, allocated)
    return Examined(size)


def _check_map(file: Window, offset: int, blocks: int, allocated: int) -> None:
    for start in range(0, blocks * 4, _PIECE):
        piece = array.array("I", file.read(offset + start, min(_PIECE, blocks * 4 - start)))
        if sys.byteorder == "big":
            piece.byteswap()
        if any(allocated <= number < FIRST_SPECIAL_BLOCK for number in piece):
            raise Unfit("Its block map points outside of its data: it is damaged. Export it again.")
