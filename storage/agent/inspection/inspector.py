"""The judge: what is in a file, by the readers of all formats."""

from collections.abc import Callable

from storage.agent.inspection import detection, iso, ova, qcow2, raw, vdi, vhd, vhdx, vmdk
from storage.agent.inspection.common import FORMATS, Disk, Examined, Found, Limits, Unfit, Window

_READERS: dict[str, Callable[[Window, Limits], Examined]] = {
    "qcow2": qcow2.examine,
    "raw": raw.examine,
    "vdi": vdi.examine,
    "vmdk": vmdk.examine,
    "vhd": vhd.examine,
    "vhdx": vhdx.examine,
    "iso": iso.examine,
}


def inspect(file: Window, declared: str | None, limits: Limits) -> Found:
    """What is in a file. `declared`: the format it must have, one of FORMATS; None: whichever of them it has.

    Raises Unfit with words for the tenant.
    """
    if declared is not None and declared not in FORMATS:
        raise Unfit(f"The format {declared} is not taken. Formats are: {', '.join(FORMATS)}.")
    found = detection.check(file, declared)
    if found == "ova":
        return ova.inspect(file, limits, examine_disk)
    disk, notes = examine_disk(file, found, limits)
    return Found(found, (disk,), notes)


def examine_disk(file: Window, found: str, limits: Limits, name: str = "") -> tuple[Disk, tuple[str, ...]]:
    """Read one disk of a known format. Raises Unfit."""
    examined = _READERS[found](file, limits)
    detection.second_opinion(file, found)
    return Disk(found, examined.virtual_bytes, file.start, file.size, name), examined.notes
