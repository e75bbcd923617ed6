"""Files made by other programs, with the answer expected of each: the folder `disk-images` beside the project, or
where PILEUS_DISK_IMAGES says. Its INDEX.md describes every file."""

import lzma
import os
import re
from pathlib import Path

import pytest

from storage.agent.inspection import ovf
from storage.agent.inspection.common import Limits, Unfit, Window
from storage.agent.inspection.inspector import inspect
from tests.storage.agent.inspection import hostile

TREE = Path(__file__).resolve().parents[4]
PLACES = [Path(os.environ.get("PILEUS_DISK_IMAGES", "/nowhere"))]
PLACES += [parent / "shared" / "data" / "disk-images" for parent in TREE.parents]
FOLDER = next((place for place in PLACES if (place / "INDEX.md").is_file()), None)
LIMITS = Limits(virtual_bytes=1 << 40)
GIB = 1 << 30

pytestmark = pytest.mark.skipif(
    FOLDER is None, reason="the folder disk-images is not here: PILEUS_DISK_IMAGES says where it is"
)

# What a file becomes: its format and the bytes of each disk; or what the refusal says.
EXPECTED: dict[str, tuple[str, list[int]] | str] = {
    "good/disk2vhd-256M.vhdx": ("vhdx", [268435456]),
    "good/disk2vhd-zerofilled.vhd": ("vhd", [263454720]),
    "good/esxi-vmfs-thick/vmfs_thick-flat.vmdk": ("raw", [2097152]),
    "good/esxi-vmfs-thick/vmfs_thick.vmdk": "other files: vmfs_thick-flat.vmdk",
    "good/ganeti-gzip-disk.ova": "compressed a second time",
    "good/hardware4-monolithic-100K.vmdk": ("vmdk", [102400]),
    "good/here-qcow2-bitmap.qcow2": ("qcow2", [4194304]),
    "good/here-qcow2-extended-l2-zstd.qcow2": ("qcow2", [4194304]),
    "good/here-qcow2-extended-l2.qcow2": ("qcow2", [4194304]),
    "good/here-qcow2-v2-snapshot.qcow2": ("qcow2", [4194304]),
    "good/here-raw-gpt.raw": ("raw", [4194304]),
    "good/hyperv-dynamic-1G.vhdx": ("vhdx", [GIB]),
    "good/hyperv2012r2-dynamic-127G.vhd": ("vhd", [136365211648]),
    "good/iso9660-apple.iso": ("iso", [362496]),
    "good/iso9660-level1.iso": ("iso", [366592]),
    "good/qemu-dynamic-ext2.vhd": ("vhd", [4212736]),
    "good/qemu-qcow2-512-byte-clusters-uefi-iso.qcow2": ("qcow2", [425984]),
    "good/qemu-qcow2-odd-size.qcow2": ("qcow2", [858993664]),
    "good/qemu-qcow2-v2-100K.qcow2": ("qcow2", [102400]),
    "good/qemu-qcow2-v2-compressed-vss.qcow2": ("qcow2", [GIB]),
    "good/qemu-qcow2-v3-ext2.qcow2": ("qcow2", [4194304]),
    "good/qemu-stream-with-data.vmdk": ("vmdk", [65536]),
    "good/qemu-stream-zero-tools.vmdk": ("vmdk", [65536]),
    "good/raw-grub-mbr-512.raw": ("raw", [512]),
    "good/raw-mbr-extended.raw": ("raw", [1474560]),
    "good/virtualbox-stream-8G.vmdk": ("vmdk", [8 * GIB]),
    "good/virtualbox-two-disks.ova": ("ova", [51200, 51200]),
    "good/virtualbox-ubuntu-ovf2.0.ova": ("ova", [8 * GIB]),
    "good/virtualpc-dynamic-127G.vhd": ("vhd", [136363130880]),
    "good/vmware-blank-stream-512M.vmdk": ("vmdk", [536870912]),
    "good/vmware-monolithic-sparse.vmdk": ("vmdk", [10485760]),
    "good/vmware-stream-1G.vmdk": ("vmdk", [GIB]),
    "good/vmware-stream-optimized.vmdk": ("vmdk", [10485760]),
    "good/vmware-twogb-sparse/twoGbMaxExtentSparse-s001.vmdk": "one part of a disk",
    "good/vmware-twogb-sparse/twoGbMaxExtentSparse.vmdk": "other files: twoGbMaxExtentSparse-s001.vmdk",
    "good/vmware-v3-stream-16G.vmdk": ("vmdk", [16 * GIB]),
    "good/windows-swap-10G.vhdx": ("vhdx", [10 * GIB]),
    "good/windows10-btrfs-1G.vhdx": ("vhdx", [GIB]),
    "good/windows10-dynamic-512M.vhd": ("vhd", [536870912]),
    "odd/apple-udif.dmg": "Apple's DMG",
    "odd/bochs-growing.bochs": "Bochs",
    "odd/esxi-21-disks.vmx": r"\(VMX\).*Export the machine as an OVA",
    "odd/esxi-efi-win2019.vmx": r"\(VMX\).*Export the machine as an OVA",
    "odd/esxi-sesparse-extent/here-descriptor.vmdk": "other files: sesparse.vmdk",
    "odd/esxi-snapshot-without-delta/vmfs_thick-000001.vmdk": "snapshot",
    "odd/here-luks-raw.img": "encrypted",
    "odd/here-qcow2-aes.qcow2": "encrypted",
    "odd/here-qcow2-dirty-bit.qcow2": "not closed cleanly",
    "odd/here-qcow2-luks.qcow2": "encrypted",
    "odd/here-vdi-empty.vdi": ("vdi", [16777216]),
    "odd/hyperv-log-replay.vhdx": "not closed cleanly",
    "odd/knoppix-cloop.cloop": "cloop",
    "odd/ova-four-byte-disk.ova": "testserver-disk1.vmdk: It is a text file",
    "odd/parallels-v1.hds": "Parallels",
    "odd/parallels-v2.hds": "Parallels",
    "odd/parallels-with-bitmap.hds": "Parallels",
    "odd/qemu-differencing-bad-checksum.vhd": "checksum",
    "odd/qemu-dirty-log-10G.vhdx": "not closed cleanly",
    "odd/qemu-overlay-1.qcow2": "backing file",
    "odd/qemu-overlay-2.qcow2": "backing file",
    "odd/qemu-vhd-bad-header-checksum.vhd": "checksum",
    "odd/qemu-vhd-original-size-differs.vhd": ("vhd", [2123776]),
    "odd/vmware-flat-without-extent.vmdk": "other files: monolithicFlat-flat.vmdk",
    "odd/vmware-many-extents-without-files.vmdk": "other files: disk-s001.vmdk, disk-s002.vmdk",
    "odd/vmware-twogbflat-without-extent.vmdk": "other files: twoGbMaxExtentFlat-f001.vmdk",
    "odd/windows-differencing.vhd": "difference to another disk",
    "odd/windows-fixed-10M-b.vhd": ("vhd", [10485760]),
    "hostile/cdi-large-memory.img": "are allowed here",
    "hostile/here-ova-dotdot-member.ova": "outside of its folder",
    "hostile/here-ova-symlink-member.ova": "no plain file",
    "hostile/here-ova-truncated.ova": "cut off",
    "hostile/here-ova-wrong-manifest.ova": "differs from the manifest",
    "hostile/here-qcow2-512T.qcow2": "are allowed here",
    "hostile/here-qcow2-backing-etc-passwd.qcow2": "backing file",
    "hostile/here-qcow2-backing-json.qcow2": "backing file",
    "hostile/here-qcow2-backing-nbd.qcow2": "backing file",
    "hostile/here-qcow2-data-file-etc-shadow.qcow2": "another file",
    "hostile/here-vmdk-extent-etc-passwd.vmdk": "outside of its folder",
    "hostile/here-vmdk-extent-parent-path.vmdk": "outside of its folder",
    "hostile/here-vmdk-raw-device.vmdk": "outside of its folder",
    "hostile/ova-bad-xml.ova": "not well-formed",
    "hostile/ova-gzipped-tar.ova": "compressed",
    "hostile/ova-is-png.ova": "picture",
    "hostile/ova-is-xml-not-tar.ova": "without its disks",
    "hostile/ova-no-disk-listed.ova": "not in the archive",
    "hostile/ova-no-ovf-inside.ova": "compressed",
    "hostile/ova-without-ovf.ova": "no OVF descriptor",
    "hostile/qemu-fuzz-vhd-huge-table.vhd": "cut off",
    "hostile/qemu-fuzz-vmdk-huge-l1.vmdk": "damaged",
    "hostile/tar-absolute-paths.ova": "outside of its folder",
    "hostile/tar-mixed-paths.ova": "outside of its folder",
    "hostile/trivy-invalid.vmdk": "descriptor is missing",
}

# What the descriptor alone says: cpus, memory in MiB, firmware, nics, OS and the number of disks; or the refusal.
Needs = tuple[int | None, int | None, str, int, str, int]
DESCRIPTORS: dict[str, Needs | str] = {
    "hostile/ovf-dangling-references.ovf": "not in the list of files",
    "hostile/ovf-disk-not-in-references.ovf": "not in the list of files",
    **dict.fromkeys(
        (
            "hostile/ovf-disk-without-capacity.ovf",
            "hostile/ovf-duplicate-disk-id.ovf",
            "hostile/ovf-duplicate-file-id.ovf",
            "hostile/ovf-duplicate-instance-id.ovf",
            "hostile/ovf-negative-chunk.ovf",
            "hostile/ovf-no-virtual-hardware.ovf",
            "hostile/ovf-parent-path-link.ovf",
            "hostile/ovf-populated-over-capacity.ovf",
            "hostile/ovf-remote-url-disk.ovf",
            "hostile/ovf-two-disks-one-file.ovf",
            "hostile/ovf-zero-capacity.ovf",
            "ovf/ovftool-gzip-odd-prefix.ovf",
            "ovf/virtualbox-all-controllers-ovf0.9.ovf",
            "ovf/vmware-studio-ovf0.9.ovf",
        ),
        "OVF 0.9",
    ),
    "hostile/ovf-file-size-max-int64.ovf": "more than there can be",
    "hostile/ovf-file-size-negative.ovf": "no number",
    "hostile/ovf-file-size-over-int64.ovf": "more than there can be",
    "hostile/ovf-file-size-under-int64.ovf": "no number",
    "hostile/ovf-not-xml.ovf": "not well-formed",
    "hostile/ovf-unknown-version-3.0.ovf": "unknown version",
    "ovf/cisco-csr1000v-profiles.ovf": (1, 4096, "bios", 3, "linux", 1),
    "ovf/esxi-gzip-disk.ovf": "compressed a second time",
    "ovf/esxi-nested-three-vms-capacity-property.ovf": "no number",
    "ovf/esxi-two-disks-large.ovf": (1, 1024, "bios", 1, "windows", 2),
    "ovf/flatcar-build-template.ovf": "no number",
    "ovf/vcenter-byte-order-mark.ovf": "more than one machine",
    "ovf/vcenter-chunked-disk.ovf": "cut into parts",
    "ovf/vcenter-dvportgroup-winxp.ovf": (2, 256, "bios", 1, "windows", 1),
    "ovf/vcenter-efi-vbs-nvram.ovf": (1, 96, "uefi", 1, "windows", 1),
    "ovf/vcenter-empty-disk-no-file.ovf": (None, None, "bios", 0, "", 1),
    "ovf/vcenter-esxi8-guest.ovf": (2, 8192, "uefi", 1, "other", 1),
    "ovf/vcenter-non-ascii-names.ovf": (1, 40, "bios", 1, "windows", 1),
    "ovf/vcenter-nvdimm.ovf": (1, 64, "bios", 1, "other", 1),
    "ovf/vcenter-parent-disk-delta.ovf": "differs from another disk",
    "ovf/vcenter-two-disks-two-nics.ovf": (2, 512, "bios", 2, "windows", 2),
    "ovf/vcenter-two-vms-vapp.ovf": "more than one machine",
    "ovf/vcenter-vtpm-nvram.ovf": (1, 1024, "uefi", 1, "linux", 1),
    "ovf/vcloud-director-ide-and-sas.ovf": (1, 256, "bios", 1, "linux", 2),
    "ovf/virt-v2v-to-ovirt-windows.ovf": "oVirt storage domain",
    "ovf/virtualbox-all-controllers.ovf": (1, 384, "bios", 1, "linux", 2),
    "ovf/virtualbox-four-nics.ovf": "no disk",
    "ovf/virtualbox-ovf2.0-ubuntu.ovf": (1, 512, "bios", 1, "linux", 1),
    "ovf/virtualbox-snapshot-disk-braces.ovf": (1, 192, "bios", 1, "windows", 1),
    "ovf/virtualbox-two-disks-no-capacity.ovf": (1, 2048, "bios", 1, "linux", 2),
    "ovf/xenserver-declared-utf16.ovf": "encoding",
}
IN_AN_ARCHIVE = {
    "hostile/ovf-corrupted-resources.ovf",
    "hostile/ovf-wrong-manifest.ovf",
    "hostile/ovf-wrong-manifest.mf",
}


def packed(name: str) -> Path:
    assert FOLDER is not None
    path = FOLDER / name
    return path if path.exists() else path.with_name(path.name + ".xz")


def unpacked(name: str, target: Path) -> Path:
    """The file as it was before it was packed, with holes where it has zeros."""
    path = packed(name)
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as source, target.open("wb") as out:
        while piece := source.read(1 << 20):
            if piece.count(0) == len(piece):
                out.seek(len(piece), os.SEEK_CUR)
            else:
                out.write(piece)
        out.truncate()
    return target


def test_every_row_of_the_index_has_an_expectation():
    assert FOLDER is not None
    names = re.findall(r"^\| `([^`]+)` \|", (FOLDER / "INDEX.md").read_text(), re.MULTILINE)
    known = {name.split("/", 1)[1] for name in [*EXPECTED, *DESCRIPTORS, *IN_AN_ARCHIVE]}
    assert {name.removesuffix(".xz") for name in names} == known
    assert len(known) == 142


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_made_elsewhere_is_judged_as_it_should_be(name, tmp_path):
    path = unpacked(name, tmp_path / "file")
    expected = EXPECTED[name]
    handle = os.open(path, os.O_RDONLY)
    try:
        if isinstance(expected, str):
            with pytest.raises(Unfit, match=expected):
                inspect(Window.of(handle), None, LIMITS)
        else:
            found = inspect(Window.of(handle), expected[0], LIMITS)
            assert (found.format, [disk.virtual_bytes for disk in found.disks]) == expected
    finally:
        os.close(handle)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_a_descriptor_made_elsewhere_is_read_as_it_should_be(name):
    expected = DESCRIPTORS[name]
    content = packed(name).read_bytes()
    if isinstance(expected, str):
        with pytest.raises(Unfit, match=expected):
            ovf.read(content)
        return
    plan = ovf.read(content)
    machine = plan.machine
    needs = (machine.cpus, machine.memory_mib, machine.firmware, machine.nics, machine.os, len(plan.disks))
    assert needs == expected


def inspect_archive(content, tmp_path):
    path = tmp_path / "web.ova"
    path.write_bytes(content)
    handle = os.open(path, os.O_RDONLY)
    try:
        return inspect(Window.of(handle), "ova", LIMITS)
    finally:
        os.close(handle)


def test_an_archive_with_another_manifest_is_refused(tmp_path):
    descriptor, manifest = (packed(f"hostile/ovf-wrong-manifest.{end}").read_bytes() for end in ("ovf", "mf"))
    disk = hostile.sound("stream")
    content = hostile.tar(("new.ovf", descriptor), ("new.mf", manifest), ("new_disk.vmdk", disk))
    with pytest.raises(Unfit, match="manifest"):
        inspect_archive(content, tmp_path)


def test_an_archive_whose_descriptor_is_of_another_machine_is_refused(tmp_path):
    descriptor = packed("hostile/ovf-corrupted-resources.ovf").read_bytes()
    with pytest.raises(Unfit, match="not in the archive"):
        inspect_archive(hostile.tar(("web.ovf", descriptor), ("disk1.vmdk", hostile.sound("stream"))), tmp_path)
