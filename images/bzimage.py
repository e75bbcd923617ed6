"""x86 kernels without their decompressor: the ELF kernel inside a bzImage, started by QEMU through PVH.

Decompressing and relocating itself is a sixth of a kernel's boot under emulation. The price: a guest's kernel lies at
a fixed address (no KASLR), and the file is twice as large.
Sources: Documentation/arch/x86/boot.rst; xen/include/public/elfnote.h (XEN_ELFNOTE_PHYS32_ENTRY).
"""

import lzma
import struct
import subprocess
import zlib

from . import tools

PT_LOAD, PT_NOTE = 1, 4
PHYS32_ENTRY = 18
PAGE = 4096
HEADER = struct.Struct("<IIQQQQQQ")


def vmlinux(kernel: bytes) -> bytes | None:
    """The kernel inside as a compact ELF file, or None when it can't be started that way and must stay as it is."""
    if kernel[0x202:0x206] != b"HdrS":
        return None
    sectors, (offset, length) = kernel[0x1F1] or 4, struct.unpack_from("<II", kernel, 0x248)
    start = (sectors + 1) * 512 + offset
    unpacked = _decompress(kernel[start : start + length])
    return compact(unpacked) if unpacked and has_pvh_entry(unpacked) else None


def has_pvh_entry(content: bytes) -> bool:
    """Whether an ELF file carries the note that names a PVH entry point."""
    for kind, _flags, start, _virtual, _physical, length, _memory, _align in _headers(content):
        position, end = start, start + length
        while kind == PT_NOTE and position + 12 <= end:
            name_size, value_size, note = struct.unpack_from("<III", content, position)
            if note == PHYS32_ENTRY and content[position + 12 : position + 16] == b"Xen\0":
                return True
            position += 12 + -(-name_size // 4) * 4 + -(-value_size // 4) * 4
    return False


def compact(content: bytes) -> bytes:
    """The same program without section table, trailing zeros and the holes between its segments."""
    headers = _headers(content)
    moved, segments, position = {}, [], PAGE
    for index, (kind, flags, start, virtual, physical, length, memory, _align) in enumerate(headers):
        if kind == PT_LOAD:
            segment = content[start : start + length].rstrip(b"\0")
            moved[index] = HEADER.pack(kind, flags, position, virtual, physical, len(segment), memory, PAGE)
            segments.append((position, segment, start))
            position += -(-len(segment) // PAGE) * PAGE
    output = bytearray(position)
    output[:64] = content[:64]
    struct.pack_into("<Q", output, 32, 64)  # the program headers follow the file header
    struct.pack_into("<Q", output, 40, 0)  # no section headers
    struct.pack_into("<HHH", output, 58, 0, 0, 0)
    for index, header in enumerate(headers):
        if index not in moved:  # a note lies within a segment and moves with it
            place = next(new + header[2] - old for new, data, old in segments if old <= header[2] < old + len(data))
            moved[index] = HEADER.pack(*header[:2], place, *header[3:])
        output[64 + index * HEADER.size : 64 + (index + 1) * HEADER.size] = moved[index]
    for place, segment, _old in segments:
        output[place : place + len(segment)] = segment
    return bytes(output)


def _headers(content: bytes) -> list[tuple[int, ...]]:
    if content[:6] != b"\x7fELF\x02\x01":
        return []
    offset, count = struct.unpack_from("<Q", content, 32)[0], struct.unpack_from("<H", content, 56)[0]
    return [HEADER.unpack_from(content, offset + index * HEADER.size) for index in range(count)]


def _decompress(payload: bytes) -> bytes | None:
    """By its magic number; the last four bytes repeat the unpacked size (except of gzip, whose own trailer says it)."""
    if payload[:2] == b"\x1f\x8b":
        return zlib.decompressobj(wbits=31).decompress(payload)
    if payload[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(payload)
    for magic, tool in ((b"\x02\x21\x4c\x18", "lz4"), (b"\x28\xb5\x2f\xfd", "zstd")):
        if payload.startswith(magic):
            done = subprocess.run(
                [tools.find(tool), "-d", "-c", "-q"], input=payload[:-4], capture_output=True, check=False
            )
            return done.stdout if done.returncode == 0 else None
    return None
