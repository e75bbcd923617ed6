"""A generator of hostile and damaged image files: a sound file of each format, and what is done to it.

`KINDS`: by name, the function that makes the content and what the refusal must say.
"""

import functools
import hashlib
import io
import json
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from storage.agent.inspection.vhdx import crc32c

SIZE = 4 << 20
SECRET = "/etc/passwd"
OPTIONS = {
    "qcow2": "",
    "vdi": "",
    "vmdk": "subformat=monolithicSparse",
    "stream": "subformat=streamOptimized",
    "vpc": "",
    "fixed-vpc": "subformat=fixed,force_size=on",
    "vhdx": "",
}


@functools.cache
def sound(kind: str) -> bytes:
    """A sound, nearly empty disk of 4 MiB, made by qemu-img: the formats of OPTIONS, and raw."""
    with tempfile.TemporaryDirectory() as folder:
        raw, made = Path(folder) / "raw", Path(folder) / "made"
        raw.write_bytes(b"\xeb\x3c" + bytes(508) + b"\x55\xaa" + bytes(SIZE - 512))
        if kind == "raw":
            return raw.read_bytes()
        format_ = {"stream": "vmdk", "fixed-vpc": "vpc"}.get(kind, kind)
        options = ["-o", OPTIONS[kind]] if OPTIONS[kind] else []
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format_, *options, raw, made], check=True)
        return made.read_bytes()


def patched(content: bytes, *changes: tuple[int, bytes]) -> bytes:
    changed = bytearray(content)
    for offset, piece in changes:
        changed[offset : offset + len(piece)] = piece
    return bytes(changed)


# qcow2


def qcow2(*changes: tuple[int, str, int]) -> Callable[[], bytes]:
    return lambda: patched(sound("qcow2"), *((offset, struct.pack(layout, value)) for offset, layout, value in changes))


def backing(name: str) -> Callable[[], bytes]:
    encoded = name.encode()
    place = struct.pack(">QI", 512, len(encoded))
    return lambda: patched(sound("qcow2"), (8, place), (512, encoded))


def qcow2_extension(kind: int, content: bytes = b"") -> Callable[[], bytes]:
    return lambda: patched(sound("qcow2"), (112, struct.pack(">II", kind, len(content)) + content + bytes(16)))


def with_snapshots(count: int) -> bytes:
    content = sound("qcow2")
    content += bytes(-len(content) % 65536)
    return patched(content, (60, struct.pack(">IQ", count, len(content)))) + bytes(count * 40)


# vdi


def vdi(*changes: tuple[int, str, int]) -> Callable[[], bytes]:
    return lambda: patched(sound("vdi"), *((offset, struct.pack(layout, value)) for offset, layout, value in changes))


def vdi_map_outside() -> bytes:
    content = sound("vdi")
    (offset,) = struct.unpack_from("<I", content, 340)
    return patched(content, (offset, struct.pack("<I", 1 << 20)))


# vmdk


def descriptor(*extents: str, kind: str = "monolithicFlat", more: str = "") -> bytes:
    lines = ["# Disk DescriptorFile", "version=1", "CID=12345678", "parentCID=ffffffff", f'createType="{kind}"']
    return "\n".join([*lines, more, "# Extent description", *extents, "# The Disk Data Base", "#DDB", ""]).encode()


def embedded(text: bytes) -> Callable[[], bytes]:
    """A sparse VMDK with this descriptor inside."""
    return lambda: patched(sound("vmdk"), (512, bytes(20 * 512)), (512, text))


def vmdk(*changes: tuple[int, str, int], kind: str = "vmdk") -> Callable[[], bytes]:
    return lambda: patched(sound(kind), *((offset, struct.pack(layout, value)) for offset, layout, value in changes))


def smuggled() -> bytes:
    """A header without a size: QEMU then takes the descriptor's word, and that names a host's file."""
    return patched(embedded(descriptor(f'RW 8 FLAT "{SECRET}" 0'))(), (12, bytes(8)))


def footed(*changes: tuple[int, bytes]) -> bytes:
    """A stream as VMware writes it: its header says that the directory is named in a footer at the end."""
    content = sound("stream")
    footer = patched(content[:512], *changes)
    marker = struct.pack("<QII", 1, 0, 3) + bytes(496)
    return patched(content, (56, b"\xff" * 8)) + marker + footer + bytes(512)


# vhd


def vhd(*changes: tuple[int, str, int], sum_again: bool = True, kind: str = "vpc") -> Callable[[], bytes]:
    """Changes in the footer, which are made in its copy too; its checksum is made again."""

    def make() -> bytes:
        content = sound(kind)
        footer = patched(content[-512:], *((offset, struct.pack(layout, value)) for offset, layout, value in changes))
        if sum_again:
            footer = patched(footer, (64, bytes(4)))
            footer = patched(footer, (64, struct.pack(">I", ~sum(footer) & 0xFFFFFFFF)))
        whole = content[:-512] + footer
        return patched(whole, (0, footer)) if kind == "vpc" else whole

    return make


def vhd_header(*changes: tuple[int, str, int]) -> Callable[[], bytes]:
    """Changes in the header of the dynamic disk, with its checksum made again."""

    def make() -> bytes:
        content = sound("vpc")
        (offset,) = struct.unpack_from(">Q", content, 16)
        header = patched(
            content[offset : offset + 1024], *((at, struct.pack(how, value)) for at, how, value in changes)
        )
        header = patched(header, (36, bytes(4)))
        return patched(content, (offset, patched(header, (36, struct.pack(">I", ~sum(header) & 0xFFFFFFFF)))))

    return make


# vhdx


def vhdx_headers(offset: int, piece: bytes, *, sum_again: bool = True) -> Callable[[], bytes]:
    def make() -> bytes:
        content = sound("vhdx")
        for place in (64 << 10, 128 << 10):
            header = patched(content[place : place + 4096], (offset, piece))
            if sum_again:
                header = patched(header, (4, bytes(4)))
                header = patched(header, (4, struct.pack("<I", crc32c(header))))
            content = patched(content, (place, header))
        return content

    return make


def vhdx_regions(change: Callable[[bytes], bytes], *, sum_again: bool = True) -> Callable[[], bytes]:
    def make() -> bytes:
        content = sound("vhdx")
        for place in (192 << 10, 256 << 10):
            table = change(content[place : place + (64 << 10)])
            if sum_again:
                table = patched(table, (4, bytes(4)))
                table = patched(table, (4, struct.pack("<I", crc32c(table))))
            content = patched(content, (place, table))
        return content

    return make


def vhdx_item(guid: str, piece: bytes, at: int = 0) -> Callable[[], bytes]:
    """Change an item of the metadata, found by the beginning of its GUID in the file."""

    def make() -> bytes:
        content = sound("vhdx")
        table = content.index(b"metadata")
        entry = content.index(bytes.fromhex(guid), table)
        (offset,) = struct.unpack_from("<I", content, entry + 16)
        return patched(content, (table + offset + at, piece))

    return make


# ova

OVF = """<?xml version="1.0"?>
{head}<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References>{files}</References>
<DiskSection><Info/>{disks}</DiskSection>
<VirtualSystem ovf:id="web"><Info/><Name>{name}</Name>
<VirtualHardwareSection><Info/>{items}</VirtualHardwareSection></VirtualSystem></Envelope>
"""
FILE = '<File ovf:id="file1" ovf:href="disk1.vmdk"/>'
DISK = '<Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="4194304"/>'


def item(number: int, kind: int, **fields: str) -> str:
    inner = {"InstanceID": str(number), "ResourceType": str(kind), **fields}
    return "<Item>" + "".join(f"<rasd:{name}>{value}</rasd:{name}>" for name, value in inner.items()) + "</Item>"


ITEMS = (
    item(1, 3, VirtualQuantity="2")
    + item(2, 4, AllocationUnits="byte * 2^20", VirtualQuantity="512")
    + item(3, 20)
    + item(4, 17, HostResource="ovf:/disk/vmdisk1", Parent="3")
    + item(5, 10)
)


def ovf(head: str = "", files: str = FILE, disks: str = DISK, items: str = ITEMS, name: str = "web") -> bytes:
    return OVF.format(head=head, files=files, disks=disks, items=items, name=name).encode()


def tar(*members: tuple[str, bytes | tarfile.TarInfo], how: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=how) as archive:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def ova(descriptor_: bytes | None = None, disk: Callable[[], bytes] = lambda: sound("stream")) -> Callable[[], bytes]:
    return lambda: tar(("web.ovf", descriptor_ or ovf()), ("disk1.vmdk", disk()))


def with_manifest(*lines: str) -> Callable[[], bytes]:
    def make() -> bytes:
        disk = sound("stream")
        text = "\n".join(lines).format(disk=hashlib.sha256(disk).hexdigest(), other="0" * 64)
        return tar(("web.ovf", ovf()), ("web.mf", text.encode()), ("disk1.vmdk", disk))

    return make


def special(kind: bytes, link: str = "") -> Callable[[], bytes]:
    def make() -> bytes:
        info = tarfile.TarInfo()
        info.type, info.linkname = kind, link
        return tar(("web.ovf", ovf()), ("disk1.vmdk", info))

    return make


def renamed(name: str, how: int = tarfile.USTAR_FORMAT) -> Callable[[], bytes]:
    return lambda: tar(("web.ovf", ovf()), (name, sound("stream")), how=how)


def negative_size() -> bytes:
    content = bytearray(tar(("web.ovf", ovf())))
    content[124:136] = b"\xff" * 12
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def entity_bomb() -> str:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
    return f'<!DOCTYPE Envelope [<!ENTITY l0 "ha">{levels}]>'


Kind = tuple[Callable[[], bytes], str | None, str]  # what makes it, the declared format, what the refusal says

KINDS: dict[str, Kind] = {
    # qcow2
    "qcow2-backing-path": (backing(SECRET), None, "backing file"),
    "qcow2-backing-relative": (backing("../../../etc/passwd"), None, "backing file"),
    "qcow2-backing-json": (
        backing("json:" + json.dumps({"driver": "raw", "file": {"driver": "file", "filename": SECRET}})),
        None,
        "backing file",
    ),
    "qcow2-backing-network": (backing("nbd://127.0.0.1:10809/"), None, "backing file"),
    "qcow2-backing-length-only": (qcow2((16, ">I", 11)), None, "backing file"),
    "qcow2-backing-offset-only": (qcow2((8, ">Q", 512)), None, "backing file"),
    "qcow2-data-file-feature": (qcow2((72, ">Q", 4)), None, "another file"),
    "qcow2-data-file-name": (qcow2_extension(0x44415441, SECRET.encode()), None, "another file"),
    "qcow2-encrypted-aes": (qcow2((32, ">I", 1)), None, "encrypted"),
    "qcow2-encrypted-luks": (qcow2((32, ">I", 2)), None, "encrypted"),
    "qcow2-encryption-header": (qcow2_extension(0x0537BE77, bytes(16)), None, "encrypted"),
    "qcow2-unknown-feature": (qcow2((72, ">Q", 1 << 40)), None, "not known here"),
    "qcow2-dirty": (qcow2((72, ">Q", 1)), None, "not closed cleanly"),
    "qcow2-corrupt": (qcow2((72, ">Q", 2)), None, "not closed cleanly"),
    "qcow2-huge": (qcow2((24, ">Q", 1 << 62)), None, "are allowed here"),
    "qcow2-no-size": (qcow2((24, ">Q", 0)), None, "no size"),
    "qcow2-clusters-of-a-gibibyte": (qcow2((20, ">I", 30)), None, "clusters"),
    "qcow2-clusters-of-a-byte": (qcow2((20, ">I", 0)), None, "clusters"),
    "qcow2-huge-l1": (qcow2((36, ">I", 0x7FFFFFFF)), None, "L1 table has"),
    "qcow2-short-l1": (qcow2((36, ">I", 0)), None, "L1 table is too short"),
    "qcow2-l1-outside": (qcow2((40, ">Q", 1 << 40)), None, "outside of the file"),
    "qcow2-l1-unaligned": (qcow2((40, ">Q", 123)), None, "begin at a cluster"),
    "qcow2-huge-refcounts": (qcow2((56, ">I", 1 << 30)), None, "refcount table has"),
    "qcow2-refcounts-outside": (qcow2((48, ">Q", 1 << 50)), None, "outside of the file"),
    "qcow2-65536-snapshots": (lambda: with_snapshots(65536), None, "65,536 internal snapshots"),
    "qcow2-snapshots-outside": (qcow2((60, ">I", 3), (64, ">Q", 1 << 40)), None, "snapshot table is missing"),
    "qcow2-many-bitmaps": (
        qcow2_extension(0x23852875, struct.pack(">IIQQ", 60000, 0, 1 << 20, 0)),
        None,
        "bitmaps",
    ),
    "qcow2-header-length": (qcow2((100, ">I", 8)), None, "header is damaged"),
    "qcow2-refcount-width": (qcow2((96, ">I", 9)), None, "header is damaged"),
    "qcow2-compression": (qcow2((72, ">Q", 8), (104, ">B", 9)), None, "compressed in a way"),
    "qcow2-endless-extensions": (
        lambda: patched(sound("qcow2"), (112, struct.pack(">II", 0x12345678, 0) * 6000)),
        None,
        "extensions of its header",
    ),
    "qcow2-version-4": (qcow2((4, ">I", 4)), None, "version 4"),
    "qcow2-version-1": (qcow2((4, ">I", 1)), None, "version 1"),
    "qcow2-cut-off": (lambda: sound("qcow2")[:70000], None, "outside of the file|ends early"),
    "qcow2-header-only": (lambda: sound("qcow2")[:40], None, "."),
    # declared as something else, or two things at once
    "raw-is-qcow2": (lambda: sound("qcow2"), "raw", "declared as raw and is qcow2"),
    "raw-is-qcow2-with-backing": (backing(SECRET), "raw", "declared as raw and is qcow2"),
    "raw-is-vmdk": (lambda: sound("vmdk"), "raw", "declared as raw and is VMDK"),
    "raw-is-vdi": (lambda: sound("vdi"), "raw", "declared as raw and is VDI"),
    "raw-is-fixed-vhd": (lambda: sound("fixed-vpc"), "raw", "declared as raw and is VHD"),
    "raw-is-a-vmdk-descriptor": (lambda: descriptor(f'RW 8 FLAT "{SECRET}" 0'), "raw", "outside of its folder"),
    "qcow2-is-raw": (lambda: sound("raw"), "qcow2", "declared as qcow2 and is raw"),
    "vdi-is-vmdk": (lambda: sound("vmdk"), "vdi", "declared as VDI and is VMDK"),
    "raw-of-odd-size": (lambda: sound("raw") + b"\0", None, "multiple of 512"),
    "vhd-and-qcow2": (lambda: sound("qcow2") + sound("fixed-vpc")[-512:], None, "at once"),
    "iso-and-qcow2": (lambda: patched(sound("qcow2"), (32768, b"\x01CD001\x01")), None, "at once"),
    "tar-and-qcow2": (lambda: patched(sound("qcow2"), (257, b"ustar\0")), None, "at once"),
    "luks": (lambda: b"LUKS\xba\xbe" + bytes(SIZE - 6), None, "encrypted with LUKS"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(509), None, "compressed"),
    "empty": (lambda: b"", None, "empty"),
    "web-page": (lambda: b"<!DOCTYPE html><html>Not found</html>", None, "web page"),
    "passwd": (lambda: b"root:x:0:0:root:/root:/bin/bash\n" * 16, None, "text file"),
    # vdi
    "vdi-undo": (vdi((76, "<I", 3)), None, "difference to another disk"),
    "vdi-difference": (vdi((76, "<I", 4)), None, "difference to another disk"),
    "vdi-parent": (vdi((440, "<Q", 7)), None, "its parent"),
    "vdi-block-size": (vdi((376, "<I", 1)), None, "blocks are of"),
    "vdi-huge-map": (vdi((384, "<I", 0xFFFFFFFF)), None, "block map has"),
    "vdi-map-outside": (vdi((340, "<I", 0xFFFFFE00)), None, "outside of the file"),
    "vdi-map-points-outside": (vdi_map_outside, None, "points outside"),
    "vdi-huge": (vdi((368, "<Q", 1 << 60)), None, "are allowed here"),
    "vdi-more-allocated-than-blocks": (vdi((388, "<I", 1 << 20)), None, "header is damaged"),
    "vdi-version": (vdi((68, "<I", 0x00020000)), None, "version 2.0"),
    "vdi-cut-off": (lambda: sound("vdi")[: 1 << 20], None, "outside of the file|cut off"),
    # vmdk
    "vmdk-flat-passwd": (lambda: descriptor(f'RW 8 FLAT "{SECRET}" 0'), None, "outside of its folder"),
    "vmdk-flat-dotdot": (lambda: descriptor('RW 8 FLAT "../../../etc/passwd" 0'), None, "outside of its folder"),
    "vmdk-flat-beside": (lambda: descriptor('RW 8 FLAT "disk-flat.vmdk" 0'), None, "other files: disk-flat.vmdk"),
    "vmdk-two-gigabytes": (
        lambda: descriptor('RW 8 FLAT "a-f001.vmdk" 0', f'RW 8 FLAT "{SECRET}" 0', kind="twoGbMaxExtentFlat"),
        None,
        "outside of its folder",
    ),
    "vmdk-device": (
        lambda: descriptor('RW 8 FLAT "/dev/vda" 0', kind="fullDevice"),
        "vmdk",
        "outside of its folder",
    ),
    "vmdk-vmfs": (lambda: descriptor('RW 8 VMFS "a-flat.vmdk"', kind="vmfs"), None, "other files"),
    "vmdk-nothing-named": (descriptor, None, "names no disk"),
    "vmdk-network": (lambda: descriptor('RW 8 SPARSE "nbd://127.0.0.1/"', kind="vmfsSparse"), None, "outside"),
    "vmdk-smuggled-descriptor": (smuggled, None, "no size"),
    "vmdk-embedded-flat": (embedded(descriptor(f'RW 8192 FLAT "{SECRET}" 0')), None, "of the kind monolithicFlat"),
    "vmdk-embedded-flat-called-sparse": (
        embedded(descriptor(f'RW 8192 FLAT "{SECRET}" 0', kind="monolithicSparse")),
        None,
        "other parts than itself",
    ),
    "vmdk-embedded-two-extents": (
        embedded(descriptor('RW 8 SPARSE "a"', f'RW 8 FLAT "{SECRET}" 0', kind="monolithicSparse")),
        None,
        "other parts than itself",
    ),
    "vmdk-embedded-path": (
        embedded(descriptor(f'RW 8192 SPARSE "{SECRET}"', kind="monolithicSparse")),
        None,
        "outside of its folder",
    ),
    "vmdk-snapshot": (
        embedded(
            descriptor('RW 8192 SPARSE "a"', kind="monolithicSparse", more=f'parentFileNameHint="{SECRET}"').replace(
                b"ffffffff", b"12345678"
            )
        ),
        None,
        "snapshot",
    ),
    # QEMU finds these words wherever they stand
    "vmdk-parent-in-a-comment": (
        embedded(descriptor('RW 8192 SPARSE "a"', kind="monolithicSparse", more=f'# parentFileNameHint="{SECRET}"')),
        None,
        "snapshot",
    ),
    "vmdk-parent-behind-a-value": (
        embedded(
            descriptor('RW 8192 SPARSE "a"', kind="monolithicSparse", more=f'ddb.a = "b" parentFileNameHint="{SECRET}"')
        ),
        None,
        "snapshot",
    ),
    "vmdk-parent-number-in-a-comment": (
        embedded(
            descriptor('RW 8192 SPARSE "a"', kind="monolithicSparse").replace(
                b"CID=1", b"# parentCID=12345678\nCID=1", 1
            )
        ),
        None,
        "snapshot",
    ),
    "vmdk-no-descriptor": (embedded(b""), None, "descriptor is missing"),
    "vmdk-descriptor-elsewhere": (vmdk((28, "<Q", 5)), None, "wrong place"),
    "vmdk-huge-descriptor": (vmdk((36, "<Q", 1 << 40)), None, "too long"),
    "vmdk-huge": (vmdk((12, "<Q", 1 << 50)), None, "are allowed here"),
    "vmdk-huge-directory": (vmdk((12, "<Q", 1 << 31), (20, "<Q", 1), (44, "<I", 1)), None, "grain directory has"),
    "vmdk-grain-not-a-power": (vmdk((20, "<Q", 100)), None, "grains"),
    "vmdk-no-entries": (vmdk((44, "<I", 0)), None, "grains"),
    "vmdk-directory-outside": (vmdk((56, "<Q", 1 << 40)), None, "outside of the file"),
    "vmdk-compression": (vmdk((77, "<H", 7)), None, "compressed in a way"),
    "vmdk-version-9": (vmdk((4, "<I", 9)), None, "version 9|not safe|cannot be checked"),
    "vmdk-stream-footer-missing": (lambda: footed()[:-1024], None, "footer at its end is missing"),
    "vmdk-stream-footer-differs": (lambda: footed((12, struct.pack("<Q", 1 << 30))), None, "do not agree"),
    "vmdk-stream-endless-footers": (lambda: footed((56, b"\xff" * 8)), None, "do not agree"),
    "vmdk-cowd": (lambda: b"COWD" + bytes(SIZE - 4), None, "VMware ESXi"),
    "vmdk-sesparse": (lambda: (0xCAFEBABE).to_bytes(8, "little") + bytes(SIZE - 8), None, "VMware ESXi"),
    # vhd
    "vhd-difference": (vhd((60, ">I", 4)), None, "difference to another disk"),
    "vhd-fixed-difference": (vhd((60, ">I", 4), kind="fixed-vpc"), None, "difference to another disk"),
    "vhd-checksum": (vhd((48, ">Q", 1 << 30), sum_again=False), None, "checksum"),
    "vhd-unknown-kind": (vhd((60, ">I", 77)), None, "unknown kind"),
    "vhd-huge": (vhd((48, ">Q", 1 << 60), (28, ">I", 0x77696E20)), None, "are allowed here"),
    "vhd-header-outside": (vhd((16, ">Q", 1 << 60)), None, "ends early"),
    "vhd-huge-table": (vhd_header((28, ">I", 0x40000001)), None, "block table has"),
    "vhd-short-table": (vhd_header((28, ">I", 0)), None, "too short"),
    "vhd-table-outside": (vhd_header((16, ">Q", 1 << 40)), None, "outside of the file"),
    "vhd-blocks": (vhd_header((32, ">I", 3)), None, "blocks are of"),
    "vhd-footer-missing": (lambda: sound("vpc")[:-512], None, "footer at its end is missing"),
    "vhd-fixed-cut-off": (lambda: sound("fixed-vpc")[-512:], None, "outside of the file"),
    # vhdx
    "vhdx-log": (vhdx_headers(48, b"\x01" * 16), None, "not closed cleanly"),
    "vhdx-headers-damaged": (vhdx_headers(0, b"tail", sum_again=False), None, "neither of its headers"),
    "vhdx-version": (vhdx_headers(66, b"\x05\0"), None, "version 5"),
    "vhdx-regions-damaged": (
        vhdx_regions(lambda table: patched(table, (16, b"\xff")), sum_again=False),
        None,
        "region table",
    ),
    "vhdx-many-regions": (vhdx_regions(lambda table: patched(table, (8, b"\xff\xff\0\0"))), None, "region table"),
    "vhdx-region-outside": (
        vhdx_regions(lambda table: patched(table, (32, struct.pack("<Q", 1 << 40)))),
        None,
        "outside of the file",
    ),
    "vhdx-region-over-the-header": (
        vhdx_regions(lambda table: patched(table, (32, bytes(8)))),
        None,
        "wrong place",
    ),
    "vhdx-parent": (vhdx_item("3767a1ca", struct.pack("<I", 2), at=4), None, "its parent"),
    "vhdx-huge": (vhdx_item("2442a52f", struct.pack("<Q", 1 << 60)), None, "are allowed here"),
    "vhdx-blocks": (vhdx_item("3767a1ca", struct.pack("<I", 3)), None, "not possible"),
    "vhdx-cut-off": (lambda: sound("vhdx")[: 1 << 20], None, "ends early|outside of the file"),
    # iso
    "iso-cut-off": (
        lambda: patched(
            bytes(64 << 10),
            (32768, b"\x01CD001\x01"),
            (32768 + 80, struct.pack("<I", 1 << 20)),
            (32768 + 128, struct.pack("<H", 2048)),
        ),
        None,
        "cut off",
    ),
    # ova: the archive
    "ova-dotdot": (renamed("../../disk1.vmdk"), None, "outside of its folder"),
    "ova-absolute": (renamed("/etc/cron.d/disk1.vmdk"), None, "outside of its folder"),
    "ova-backslash": (renamed("..\\disk1.vmdk"), None, "outside of its folder"),
    "ova-dotdot-by-pax": (renamed("../" * 50 + "disk1.vmdk", tarfile.PAX_FORMAT), None, "outside of its folder"),
    "ova-dotdot-by-gnu": (renamed("../" * 50 + "disk1.vmdk", tarfile.GNU_FORMAT), None, "outside of its folder"),
    "ova-symbolic-link": (special(tarfile.SYMTYPE, SECRET), None, "no plain file"),
    "ova-hard-link": (special(tarfile.LNKTYPE, SECRET), None, "no plain file"),
    "ova-device": (special(tarfile.BLKTYPE), None, "no plain file"),
    "ova-fifo": (special(tarfile.FIFOTYPE), None, "no plain file"),
    "ova-folder": (special(tarfile.DIRTYPE), None, "no plain file|outside"),
    "ova-twice": (
        lambda: tar(("web.ovf", ovf()), ("disk1.vmdk", sound("stream")), ("disk1.vmdk", sound("vmdk"))),
        None,
        "twice",
    ),
    "ova-two-descriptors": (lambda: tar(("a.ovf", ovf()), ("b.ovf", ovf())), None, "2 OVF descriptors"),
    "ova-no-descriptor": (lambda: tar(("disk1.vmdk", sound("stream"))), None, "no OVF descriptor"),
    "ova-many-files": (
        lambda: tar(("web.ovf", ovf()), *((f"{number}", b"") for number in range(1000))),
        None,
        "more than 64 files",
    ),
    "ova-cut-off": (lambda: ova()()[: -(70 << 10)], None, "cut off"),
    "ova-negative-size": (negative_size, None, "no possible size"),
    "ova-header-changed": (lambda: patched(ova()(), (0, b"x")), None, "wrong checksum"),
    "ova-nested": (ova(disk=ova()), None, "no disk in a format"),
    "ova-manifest-differs": (with_manifest("SHA256(disk1.vmdk)= {other}"), None, "differs from the manifest"),
    "ova-manifest-of-others": (with_manifest("SHA256(/etc/passwd)= {other}"), None, "not in the archive"),
    "ova-manifest-of-nothing": (with_manifest("what is this"), None, "cannot be read"),
    "ova-disk-missing": (lambda: tar(("web.ovf", ovf())), None, "not in the archive"),
    # ova: its disks
    "ova-disk-with-backing": (ova(disk=backing(SECRET)), None, "disk1.vmdk: It has a backing file"),
    "ova-disk-is-passwd-descriptor": (
        ova(disk=lambda: descriptor(f'RW 8 FLAT "{SECRET}" 0')),
        None,
        "disk1.vmdk: .*outside of its folder",
    ),
    "ova-disk-smuggled": (ova(disk=smuggled), None, "disk1.vmdk: .*no size"),
    "ova-disk-larger-than-it-says": (
        ova(ovf(disks=DISK.replace("4194304", "65536"))),
        None,
        "more than the 64 KiB that the OVF says",
    ),
    # ova: the descriptor
    "ovf-entities": (ova(ovf(head=entity_bomb(), name="&l8;")), None, "document type or entities"),
    "ovf-external-entity": (
        ova(ovf(head=f'<!DOCTYPE E [<!ENTITY x SYSTEM "file://{SECRET}">]>', name="&x;")),
        None,
        "document type or entities",
    ),
    "ovf-external-dtd": (
        ova(ovf(head='<!DOCTYPE E SYSTEM "http://127.0.0.1/x.dtd">')),
        None,
        "document type or entities",
    ),
    "ovf-no-xml": (ova(b"\0\1\2"), None, "not well-formed"),
    "ovf-too-long": (ova(ovf(name="x" * (5 << 20))), None, "longer than 4 MiB"),
    "ovf-many-elements": (ova(ovf(items="<a/>" * 200_000)), None, "elements"),
    "ovf-remote-file": (ova(ovf(files=FILE.replace("disk1", "http://169.254.169.254/disk1"))), None, "on the network"),
    "ovf-file-outside": (ova(ovf(files=FILE.replace("disk1", "../../etc/disk1"))), None, "outside of the archive"),
    "ovf-file-absolute": (ova(ovf(files=FILE.replace("disk1.vmdk", SECRET))), None, "outside of the archive"),
    "ovf-file-id-twice": (ova(ovf(files=FILE + FILE.replace("disk1", "disk2"))), None, "file id 'file1' twice"),
    "ovf-disk-id-twice": (ova(ovf(disks=DISK + DISK)), None, "disk id 'vmdisk1' twice"),
    "ovf-item-twice": (ova(ovf(items=ITEMS + item(1, 10))), None, "item '1' twice"),
    "ovf-two-disks-one-file": (ova(ovf(disks=DISK + DISK.replace("vmdisk1", "vmdisk2"))), None, "same file"),
    "ovf-delta": (ova(ovf(disks=DISK.replace("/>", ' ovf:parentRef="base"/>'))), None, "differs from another disk"),
    "ovf-chunks": (ova(ovf(files=FILE.replace("/>", ' ovf:chunkSize="-1"/>'))), None, "cut into parts"),
    "ovf-gzip": (ova(ovf(files=FILE.replace("/>", ' ovf:compression="gzip"/>'))), None, "compressed a second time"),
    "ovf-no-capacity-left": (ova(ovf(disks=DISK.replace("4194304", "0"))), None, "no capacity"),
    "ovf-negative-capacity": (ova(ovf(disks=DISK.replace("4194304", "-1"))), None, "no number"),
    "ovf-placeholder-capacity": (ova(ovf(disks=DISK.replace("4194304", "${size}"))), None, "no number"),
    "ovf-absurd-capacity": (ova(ovf(disks=DISK.replace("4194304", "9" * 19))), None, "more than there can be"),
    "ovf-large-capacity": (ova(ovf(disks=DISK.replace("4194304", str(1 << 45)))), None, "are allowed here"),
    "ovf-unknown-unit": (
        ova(ovf(disks=DISK.replace("/>", ' ovf:capacityAllocationUnits="byte * 2^99"/>'))),
        None,
        "no unit",
    ),
    "ovf-populated-over-capacity": (
        ova(ovf(disks=DISK.replace("/>", ' ovf:populatedSize="4194305"/>'))),
        None,
        "more than its capacity",
    ),
    "ovf-file-size-negative": (ova(ovf(files=FILE.replace("/>", ' ovf:size="-5"/>'))), None, "no number"),
    "ovf-file-size-huge": (ova(ovf(files=FILE.replace("/>", f' ovf:size="{1 << 63}"/>'))), None, "more than there"),
    "ovf-file-size-differs": (ova(ovf(files=FILE.replace("/>", ' ovf:size="5"/>'))), None, "shorter or longer"),
    "ovf-file-not-listed": (ova(ovf(files="")), None, "not in the list of files"),
    "ovf-disk-nowhere": (ova(ovf(items=ITEMS.replace("disk/vmdisk1", "disk/other"))), None, "not in the list of disks"),
    "ovf-controller-nowhere": (
        ova(ovf(items=ITEMS.replace("Parent>3<", "Parent>33<"))),
        None,
        "controller that the machine has not",
    ),
    "ovf-item-without-type": (ova(ovf(items=ITEMS + item(9, 3).replace(">3<", "><"))), None, "has no type"),
    "ovf-two-machines": (
        ova(ovf().replace(b"</Envelope>", b"<VirtualSystem><Info/></VirtualSystem></Envelope>")),
        None,
        "more than one machine",
    ),
    "ovf-no-machine": (ova(ovf().replace(b"VirtualSystem", b"Other")), None, "describes no machine"),
    "ovf-no-hardware": (ova(ovf().replace(b"VirtualHardwareSection", b"Other")), None, "nothing of the machine"),
    "ovf-no-disk": (ova(ovf(disks="", items=item(1, 3))), None, "has no disk"),
    "ovf-version-3": (ova(ovf().replace(b"envelope/1", b"envelope/3")), None, "unknown version"),
    "ovf-many-disks": (
        ova(
            ovf(
                files="".join(f'<File ovf:id="f{n}" ovf:href="d{n}.vmdk"/>' for n in range(40)),
                disks="".join(f'<Disk ovf:diskId="d{n}" ovf:fileRef="f{n}" ovf:capacity="1"/>' for n in range(40)),
                items="".join(item(n, 17, HostResource=f"ovf:/disk/d{n}") for n in range(1, 40)),
            )
        ),
        None,
        "40 disks",
    ),
}
