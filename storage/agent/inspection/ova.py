"""An appliance in one file: an archive of a descriptor, a manifest and disks. Source: DMTF DSP0243."""

import hashlib
import re
from collections.abc import Callable

from storage.agent.inspection import archive, detection, ovf
from storage.agent.inspection.common import MIB, Disk, Found, Limits, Unfit, Window, check_size, printable, size_words

MAX_MANIFEST = 64 << 10
MACOS = "._"  # begins the names of what tar on macOS puts beside every file
DISK_FORMATS = ("vmdk", "vdi", "vhd", "vhdx", "qcow2", "raw")
_AGAIN = "Export the machine again as an OVA."
_LINE = re.compile(r"(SHA1|SHA256|SHA512)\s*\((.+)\)\s*=\s*([0-9a-fA-F]+)\s*")
_PIECE = MIB

Examine = Callable[[Window, str, Limits, str], tuple[Disk, tuple[str, ...]]]


def inspect(file: Window, limits: Limits, examine: Examine) -> Found:
    """What is in an OVA; `examine` reads one disk of a known format. Raises Unfit."""
    found = archive.read_members(file)
    members = {member.name: member.content for member in found if not member.name.startswith(MACOS)}
    descriptors = [name for name in members if name.lower().endswith(".ovf")]
    if len(descriptors) != 1:
        count = "no OVF descriptor" if not descriptors else f"{len(descriptors)} OVF descriptors"
        raise Unfit(f"The archive has {count}, and an OVA has one. {_AGAIN}")
    content = members[descriptors[0]]
    plan = ovf.read(content.head(ovf.MAX_BYTES + 1))
    if len(plan.disks) > limits.disks:
        raise Unfit(f"It has {len(plan.disks)} disks, and {limits.disks} are allowed. Export fewer.")
    for wanted in plan.disks:
        if wanted.file not in members:
            raise Unfit(f"The file {printable(wanted.file)} of a disk is not in the archive. {_AGAIN}")
        if wanted.size is not None and wanted.size != members[wanted.file].size:
            raise Unfit(f"The file {printable(wanted.file)} is shorter or longer than the OVF says. {_AGAIN}")
        if wanted.capacity is not None:
            check_size(wanted.capacity, limits)
    notes = [*plan.notes, *_check_manifest(members)]
    disks = []
    for wanted in plan.disks:
        disk, more = _disk(wanted, members[wanted.file], limits, examine)
        disks.append(disk)
        notes += more
    return Found("ova", tuple(disks), tuple(notes), plan.machine, plan.uefi)


def _disk(wanted: ovf.DiskPlan, content: Window, limits: Limits, examine: Examine) -> tuple[Disk, tuple[str, ...]]:
    name = printable(wanted.file)
    try:
        found = detection.detect(content)
        if found not in DISK_FORMATS or (found == "raw" and not wanted.file.lower().endswith((".img", ".raw"))):
            raise Unfit("It is no disk in a format that an OVA has.")
        disk, notes = examine(content, found, limits, wanted.file)
    except Unfit as problem:
        raise Unfit(f"Its disk {name}: {problem}") from problem
    if wanted.capacity is not None and disk.virtual_bytes > wanted.capacity:
        raise Unfit(
            f"Its disk {name} is of {size_words(disk.virtual_bytes)}, more than the "
            f"{size_words(wanted.capacity)} that the OVF says. {_AGAIN}"
        )
    return disk, notes


def _check_manifest(members: dict[str, Window]) -> list[str]:
    """Compare all sums of the manifest. Raises Unfit."""
    manifests = [name for name in members if name.lower().endswith(".mf")]
    if not manifests:
        return ["It has no manifest, so whether it arrived as it was exported could not be checked."]
    lines = members[manifests[0]].head(MAX_MANIFEST + 1).decode(errors="replace").splitlines()
    if len(manifests) > 1 or members[manifests[0]].size > MAX_MANIFEST:
        raise Unfit(f"It has more than one manifest, or one that is too long. {_AGAIN}")
    for line in filter(str.strip, lines):
        match = _LINE.fullmatch(line)
        if match is None:
            raise Unfit(f"Its manifest has a line that cannot be read: {printable(line)}. {_AGAIN}")
        name = match[2]
        if name not in members:
            raise Unfit(f"Its manifest lists {printable(name)}, which is not in the archive. {_AGAIN}")
        if _sum(members[name], match[1].lower()) != match[3].lower():
            raise Unfit(f"The checksum of {printable(name)} differs from the manifest: it was changed. {_AGAIN}")
    return []


def _sum(content: Window, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)
    for offset in range(0, content.size, _PIECE):
        digest.update(content.read(offset, min(_PIECE, content.size - offset)))
    return digest.hexdigest()
