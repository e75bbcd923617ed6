"""The little of ELF that building needs: which libraries a program loads, and what a kernel module says of itself."""

import struct
from dataclasses import dataclass

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB = 1, 5


@dataclass(frozen=True)
class Linkage:
    """What the dynamic loader must find for a program or library."""

    interpreter: str | None
    needed: tuple[str, ...]


def is_elf(content: bytes) -> bool:
    return content[:6] == b"\x7fELF\x02\x01"  # 64-bit, little-endian: every architecture of the table


def linkage(content: bytes) -> Linkage:
    """Interpreter and DT_NEEDED of a 64-bit little-endian ELF file; nothing for a static one (System V ABI, ch. 5)."""
    offset, size, count = *struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", content, offset + i * size) for i in range(count)]
    interpreter, needed = None, []
    for kind, _flags, start, _vaddr, _paddr, length, _memory, _align in headers:
        if kind == PT_INTERP:
            interpreter = content[start : start + length].rstrip(b"\0").decode()
        elif kind == PT_DYNAMIC:
            entries = list(struct.iter_unpack("<QQ", content[start : start + length - length % 16]))
            table = next(value for tag, value in entries if tag == DT_STRTAB)
            strings = next(h[2] + table - h[3] for h in headers if h[0] == PT_LOAD and h[3] <= table < h[3] + h[5])
            needed = [_string(content, strings + value) for tag, value in entries if tag == DT_NEEDED]
    return Linkage(interpreter, tuple(needed))


def module_facts(content: bytes) -> dict[str, list[str]]:
    """The `.modinfo` section of a kernel module: {"name": [...], "depends": [...], "alias": [...], ...}."""
    offset = struct.unpack_from("<Q", content, 40)[0]
    size, count, names = struct.unpack_from("<HHH", content, 58)
    sections = [struct.unpack_from("<IIQQQQ", content, offset + i * size) for i in range(count)]
    facts: dict[str, list[str]] = {}
    for name, _kind, _flags, _address, start, length in sections:
        if _string(content, sections[names][4] + name) == ".modinfo":
            for line in content[start : start + length].split(b"\0"):
                key, _, value = line.decode("utf-8", "replace").partition("=")
                if key:
                    facts.setdefault(key, []).append(value)
    return facts


def _string(content: bytes, start: int) -> str:
    return content[start : content.index(b"\0", start)].decode()
