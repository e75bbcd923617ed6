"""What a file is, by its content alone: names and declarations are not asked.

oslo.utils looks first, at the beginning and the end; where two formats could both be meant, nobody guesses. What it
does not know, such as a fixed VHD, an archive or a picture, is told by signatures of our own.
"""

import io

from oslo_utils.imageutils import format_inspector

from storage.agent.inspection import vhd, vmdk
from storage.agent.inspection.common import MIB, SECTOR, TITLES, Unfit, Window

HEAD_BYTES = 4 * MIB  # where every format says what it is
EXPORT_INSTEAD = "Export the machine as an OVA, or its disk as qcow2, raw, VDI, VMDK, VHD or VHDX."

# Formats and archives that are not taken: where, what is there, what it is, what to do.
_COMPRESSED = "It is compressed ({}). Unpack it and upload what is inside."
_OTHER_DISK = "It is a disk in the format of {}, which is not taken. " + EXPORT_INSTEAD
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QED\0", _OTHER_DISK.format("QED")),
    (0, b"WithoutFreeSpace", _OTHER_DISK.format("Parallels")),
    (0, b"WithouFreSpacExt", _OTHER_DISK.format("Parallels")),
    (0, b"Bochs Virtual HD Image", _OTHER_DISK.format("Bochs")),
    (0, b"#!/bin/sh\n#V2.0 Format\n", _OTHER_DISK.format("cloop")),
    (0, b"VMA\0", "It is a backup of Proxmox VE. Restore it there and export the disk as qcow2."),
    (0, b"QFI\xfb\0\0\0\1", _OTHER_DISK.format("qcow, version 1")),
    (0, b"LUKS\xba\xbe", "It is encrypted with LUKS. Decrypt it first: a guest could not read its own disk here."),
    (0, b"\x1f\x8b", _COMPRESSED.format("gzip")),
    (0, b"\xfd7zXZ\0", _COMPRESSED.format("xz")),
    (0, b"BZh", _COMPRESSED.format("bzip2")),
    (0, b"\x28\xb5\x2f\xfd", _COMPRESSED.format("zstd")),
    (0, b"PK\x03\x04", _COMPRESSED.format("zip")),
    (0, b"7z\xbc\xaf\x27\x1c", _COMPRESSED.format("7z")),
    (0, b"Rar!", _COMPRESSED.format("rar")),
    (0, b"\x89PNG", "It is a picture, no disk."),
    (0, b"\xff\xd8\xff", "It is a picture, no disk."),
    (0, b"%PDF", "It is a PDF, no disk."),
    (0, b"\x7fELF", "It is a program, no disk."),
)


def detect(file: Window) -> str:
    """The format of a file, one of `common.FORMATS`. Raises Unfit for an unknown or ambiguous one."""
    if not file.size:
        raise Unfit("The file is empty.")
    head = file.head(HEAD_BYTES)
    matches = _ask_oslo(file, head)
    if vhd.is_vhd(file):
        matches.add("vhd")
    if is_tar(head):
        matches.add("ova")
    for offset, signature, words in _SIGNATURES:
        if head.startswith(signature, offset):
            raise Unfit(words)
    if file.size >= SECTOR and file.tail(SECTOR).startswith(b"koly"):
        raise Unfit(_OTHER_DISK.format("Apple's DMG"))
    if len(matches) > 1:
        titles = " and ".join(sorted(TITLES[name] for name in matches))
        raise Unfit(f"It could be {titles} at once: made so by mistake, or to do harm. Export it again.")
    if matches:
        return matches.pop()
    if head.startswith((vmdk.OLD_MAGIC, vmdk.SE_SPARSE_MAGIC)):
        vmdk.refuse_extent()
    if vmdk.is_descriptor(head[: SECTOR * 4]) and _is_text(head):
        vmdk.refuse_descriptor(file)
    if _is_text(head):
        raise Unfit(_text_words(head))
    if file.size % SECTOR:
        raise Unfit(
            "It is no disk image that is known here: as a raw disk its size would be a multiple of 512 bytes. "
            "It may have been cut off. " + EXPORT_INSTEAD
        )
    return "raw"


def check(file: Window, declared: str | None) -> str:
    """The format of a file, which must be the declared one if any is. Raises Unfit."""
    found = detect(file)
    if declared is None or declared == found or (declared, found) == ("raw", "iso"):
        return found
    raise Unfit(
        f"It was declared as {TITLES.get(declared, declared)} and is {TITLES[found]}. Nothing is guessed here: "
        f"declare it as {TITLES[found]} if that is what you mean, otherwise export it again."
    )


def _ask_oslo(file: Window, head: bytes) -> set[str]:
    """Formats that oslo.utils sees. Raises Unfit where it says that the content is not safe."""
    wrapper = format_inspector.InspectWrapper(io.BytesIO(head + file.tail(3 * SECTOR)))
    while wrapper.read(64 << 10):
        pass
    wrapper.close()
    seen = {str(inspector): inspector for inspector in wrapper.formats or []}
    # A partition table is no format, and a CD may have one. What QED and LUKS are, the signatures say.
    names = seen.keys() & {"qcow2", "vdi", "vmdk", "vhd", "vhdx", "iso"}
    if "vmdk" in names and not head.startswith(vmdk.MAGIC):
        names -= {"vmdk"}  # only a descriptor, for which there are words of their own
    return set(names)


def second_opinion(file: Window, found: str) -> None:
    """Ask oslo.utils whether the content is safe, after our own readers. Raises Unfit."""
    if found not in ("qcow2", "vmdk"):
        return
    inspector = format_inspector.ALL_FORMATS[found]()
    content = io.BytesIO(file.head(HEAD_BYTES) + file.tail(3 * SECTOR))
    while piece := content.read(64 << 10):
        inspector.eat_chunk(piece)
    inspector.finish()
    try:
        inspector.safety_check()
    except format_inspector.SafetyCheckFailed as problem:
        # It does not know extended L2 tables yet; our own reader knows which features are harmless.
        reasons = [str(reason) for name, reason in problem.failures.items() if name != "unknown_features"]
        if reasons:
            raise Unfit(f"It is not safe to open: {'; '.join(reasons)}. Export it again.") from problem
    except format_inspector.ImageFormatError as problem:
        raise Unfit(f"It cannot be checked: {problem}. Export it again.") from problem


def is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _is_text(head: bytes) -> bool:
    sample = head[:2048]
    if b"\0" in sample:
        return False
    try:
        text = sample.decode()
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 4:
            return False
        text = sample[: error.start].decode()
    return all(letter.isprintable() or letter.isspace() for letter in text.lstrip("\ufeff"))


def _text_words(head: bytes) -> str:
    sample = head[:2048].decode(errors="replace").lstrip("\ufeff \r\n").lower()
    if ".encoding" in sample or "config.version" in sample or "virtualhw.version" in sample:
        return "It is the configuration of a VMware machine (VMX), without its disks. Export the machine as an OVA."
    if sample.startswith("<"):
        if "envelope" in sample:
            return "It is an OVF descriptor without its disks. Upload the OVA, which has both in one file."
        return "It is an XML or HTML file, no disk: was the address that of a web page?"
    return "It is a text file, no disk. " + EXPORT_INSTEAD
