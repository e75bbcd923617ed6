"""A tar archive. Source: POSIX.1-2008, pax; tar.h of GNU tar.

Nothing is unpacked: members are read where they lie. So no name in an archive ever becomes a path.
"""

import re
from dataclasses import dataclass

from storage.agent.inspection.common import MAX_FILE_BYTES, Unfit, Window, printable, safe_name

BLOCK = 512
MAX_MEMBERS = 64
MAX_NAME_RECORD = 64 << 10
_AGAIN = "Export the machine again as an OVA."


@dataclass(frozen=True)
class Member:
    name: str
    content: Window


def read_members(file: Window) -> list[Member]:
    """The members of a tar, all of them plain files with plain names. Raises Unfit."""
    members: list[Member] = []
    offset, long_name, long_size = 0, "", None
    for _ in range(MAX_MEMBERS * 3):
        if offset + BLOCK > file.size:
            break  # some programs leave out the empty blocks at the end
        header = file.read(offset, BLOCK)
        if not any(header):
            break
        _check_header(header)
        size = long_size if long_size is not None else _number(header[124:136])
        kind = header[156:157]
        if kind in (b"x", b"L"):
            if size > MAX_NAME_RECORD:
                raise Unfit(f"The archive is damaged: a name is longer than {MAX_NAME_RECORD >> 10} KiB. {_AGAIN}")
            record = file.read(offset + BLOCK, size, "list of files")
            long_name, long_size = _longer(record, kind, long_name, long_size)
            offset += BLOCK + _padded(size)
            continue
        if kind == b"g":
            offset += BLOCK + _padded(size)
            continue
        name = (long_name or _name(header)).removeprefix("./")
        if kind == b"5" and name in ("", "."):  # the folder itself
            offset, long_name, long_size = offset + BLOCK, "", None
            continue
        _check_member(name, kind, members)
        if offset + BLOCK + size > file.size:
            raise Unfit(f"The archive ends inside of {printable(name)}: it was cut off. Upload it again.")
        members.append(Member(name, file.part(offset + BLOCK, size)))
        offset, long_name, long_size = offset + BLOCK + _padded(size), "", None
    else:
        raise Unfit(f"The archive has more than {MAX_MEMBERS} files. {_AGAIN}")
    return members


def _check_member(name: str, kind: bytes, members: list[Member]) -> None:
    words = printable(name)
    if not safe_name(name):
        raise Unfit(f"The archive has a file {words!r} outside of its folder. Nothing is unpacked. {_AGAIN}")
    if kind not in (b"0", b"\0", b"7"):
        raise Unfit(f"Its member {words} is no plain file but a link, a device or a folder. {_AGAIN}")
    if any(member.name == name for member in members):
        raise Unfit(f"The archive has the file {words} twice. {_AGAIN}")
    if len(members) >= MAX_MEMBERS:
        raise Unfit(f"The archive has more than {MAX_MEMBERS} files. {_AGAIN}")


def _check_header(header: bytes) -> None:
    declared = _number(header[148:156])
    if sum(header[:148]) + 8 * 32 + sum(header[156:]) != declared:
        raise Unfit(f"The archive is damaged: a header has a wrong checksum. {_AGAIN}")


def _number(field: bytes) -> int:
    """An octal number, or a binary one as GNU tar writes it for large files."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value > MAX_FILE_BYTES:
            raise Unfit(f"The archive is damaged: a file has no possible size. {_AGAIN}")
        return value
    text = field.split(b"\0", 1)[0].strip()
    if not re.fullmatch(rb"[0-7]*", text):
        raise Unfit(f"The archive is damaged: a header has no number where one has to be. {_AGAIN}")
    return int(text or b"0", 8)


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode(errors="replace")


def _longer(content: bytes, kind: bytes, name: str, file_size: int | None) -> tuple[str, int | None]:
    """The name and the size that a record gives to the member after it."""
    if kind == b"L":
        return content.split(b"\0", 1)[0].decode(errors="replace"), file_size
    while content:
        length, _, rest = content.partition(b" ")
        if not length.isdigit() or not len(length) < int(length[:9]) <= len(content):
            raise Unfit(f"The archive is damaged: a record about a file cannot be read. {_AGAIN}")
        record = rest[: int(length) - len(length) - 1].rstrip(b"\n")
        key, _, value = record.partition(b"=")
        if key == b"path":
            name = value.decode(errors="replace")
        elif key == b"size" and value.isdigit() and len(value) <= 19:
            file_size = int(value)
        elif key.startswith(b"GNU.sparse"):
            raise Unfit(f"The archive has files with holes. {_AGAIN}")
        content = content[int(length) :]
    return name, file_size


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
