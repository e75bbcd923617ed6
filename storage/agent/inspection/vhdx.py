"""VHDX, the format of Hyper-V. Source: MS-VHDX, “Virtual Hard Disk v2 File Format”."""

import struct
import uuid

from storage.agent.inspection.common import MIB, Examined, Limits, Unfit, Window, check_size, check_table

SIGNATURE = b"vhdxfile"
HEADERS = (64 << 10, 128 << 10)
REGIONS = (192 << 10, 256 << 10)
MAX_ENTRIES = 2047
MAX_METADATA_ITEM = 1 << 16
MAX_TABLE_BYTES = 256 * MIB

BAT = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
SECTOR_SIZE = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PARENT_LOCATOR = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")

_DAMAGED = "It is damaged: {}. Open it once in Hyper-V or mount it in Windows, then export it again."
_HAS_PARENT = "It is the difference to another disk, its parent. Merge both in Hyper-V first."


def examine(file: Window, limits: Limits) -> Examined:
    if file.head(8) != SIGNATURE:
        raise Unfit("It is no VHDX. Export it again.")
    _check_log(file)
    regions = _regions(file)
    if BAT not in regions or METADATA not in regions:
        raise Unfit(_DAMAGED.format("its block table or its metadata is missing"))
    for offset, length in regions.values():
        if offset < MIB or offset % MIB:
            raise Unfit(_DAMAGED.format("a region begins at a wrong place"))
        file.holds(offset, length, "block table or metadata")
    items = _items(file.part(*regions[METADATA]))
    if PARENT_LOCATOR in items:
        raise Unfit(_HAS_PARENT)
    block, flags = _numbers(items, FILE_PARAMETERS, "<II")
    (size,) = _numbers(items, VIRTUAL_SIZE, "<Q")
    (sector,) = _numbers(items, SECTOR_SIZE, "<I")
    if flags & 2:
        raise Unfit(_HAS_PARENT)
    check_size(size, limits)
    if not MIB <= block <= 256 * MIB or block & (block - 1) or sector not in (512, 4096) or size % sector:
        raise Unfit(_DAMAGED.format("its parameters are not possible"))
    blocks = -(-size // block)
    entries = blocks + (blocks - 1) // ((1 << 23) * sector // block)
    check_table(entries, 8, MAX_TABLE_BYTES, "block table")
    if entries * 8 > regions[BAT][1]:
        raise Unfit(_DAMAGED.format("its block table is too short for its size"))
    return Examined(size)


def _check_log(file: Window) -> None:
    """Raises Unfit unless all that was written is in its place: the log of the newer sound header is empty."""
    sound = []
    for offset in HEADERS:
        header = file.read(offset, 4096, "header")
        signature, declared, sequence = struct.unpack_from("<4sIQ", header)
        if signature == b"head" and declared == crc32c(header[:4] + bytes(4) + header[8:]):
            sound.append((sequence, header))
    if not sound:
        raise Unfit(_DAMAGED.format("neither of its headers is sound"))
    _, header = max(sound)
    log, version = header[48:64], struct.unpack_from("<H", header, 66)[0]
    if version != 1:
        raise Unfit(f"It is of version {version} of VHDX, and 1 is taken.")
    if any(log):
        raise Unfit(
            "It was not closed cleanly: its log holds changes that are not in their place yet. Shut its guest down, or "
            "mount it in Windows and unmount it, then try again."
        )


def _regions(file: Window) -> dict[uuid.UUID, tuple[int, int]]:
    """Offset and length of each region, by the first table that reads well."""
    for offset in REGIONS:
        table = file.read(offset, 1 << 16, "region table")
        signature, declared, count = struct.unpack_from("<4sII", table)
        if signature != b"regi" or count > MAX_ENTRIES or declared != crc32c(table[:4] + bytes(4) + table[8:]):
            continue
        regions: dict[uuid.UUID, tuple[int, int]] = {}
        for number in range(count):
            name, start, length, required = struct.unpack_from("<16sQII", table, 16 + number * 32)
            guid = uuid.UUID(bytes_le=name)
            if guid in regions:
                raise Unfit(_DAMAGED.format("it has a region twice"))
            if guid in (BAT, METADATA):
                regions[guid] = start, length
            elif required & 1:
                raise Unfit(_DAMAGED.format("it needs a region that is not known"))
        return regions
    raise Unfit(_DAMAGED.format("its region table cannot be read"))


def _items(metadata: Window) -> dict[uuid.UUID, bytes]:
    head = metadata.read(0, 1 << 16, "metadata")
    signature, _, count = struct.unpack_from("<8sHH", head)
    if signature != b"metadata" or count > MAX_ENTRIES:
        raise Unfit(_DAMAGED.format("its metadata cannot be read"))
    items: dict[uuid.UUID, bytes] = {}
    wanted = (FILE_PARAMETERS, VIRTUAL_SIZE, SECTOR_SIZE, PARENT_LOCATOR)
    for number in range(count):
        name, offset, length = struct.unpack_from("<16sII", head, 32 + number * 32)
        guid = uuid.UUID(bytes_le=name)
        if guid in items or length > MAX_METADATA_ITEM:
            raise Unfit(_DAMAGED.format("its metadata has an item twice, or one that is too long"))
        if guid in wanted:
            items[guid] = metadata.read(offset, length, "metadata")
    return items


def _numbers(items: dict[uuid.UUID, bytes], name: uuid.UUID, layout: str) -> tuple[int, ...]:
    content = items.get(name, b"")
    if len(content) < struct.calcsize(layout):
        raise Unfit(_DAMAGED.format("its metadata is not complete"))
    return struct.unpack_from(layout, content)


def crc32c(content: bytes) -> int:
    """The checksum of RFC 3720, which zlib has not."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _CRC[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC = tuple(_crc_of(byte) for byte in range(256))
