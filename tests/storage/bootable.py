"""A disk that starts: its boot sector says something at the serial port, and halts."""

import subprocess
from pathlib import Path

START = 0x7C00
# cli; xor ax, ax; mov ds, ax; mov si, TEXT; cld; next: lodsb; test al, al; jz end; mov dx, 0x3f8; out dx, al;
# jmp next; end: hlt; jmp end
BEFORE, AFTER = bytes.fromhex("fa31c08ed8be"), bytes.fromhex("fcac84c07406baf803eeebf5f4ebfd")
TEXT = 0x20
SIZE = 4 << 20


def disk(words: str) -> bytes:
    """A raw disk that says these words."""
    code = (BEFORE + (START + TEXT).to_bytes(2, "little") + AFTER).ljust(TEXT, b"\x90")
    sector = (code + f"\r\n{words}\r\n".encode() + b"\0").ljust(510, b"\0") + b"\x55\xaa"
    return sector + bytes(SIZE - len(sector))


def converted(words: str, format_: str, folder: Path, options: str = "") -> bytes:
    """The same disk in another format of qemu-img's."""
    raw, made = folder / "said", folder / f"boot.{format_}"
    raw.write_bytes(disk(words))
    extra = ["-o", options] if options else []
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format_, *extra, raw, made], check=True)
    return made.read_bytes()
