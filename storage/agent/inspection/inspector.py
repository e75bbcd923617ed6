"""The judge: what is in a file, by the readers of all formats."""

from storage.agent.inspection import detection, ova
from storage.agent.inspection.common import FORMATS, Disk, Found, Limits, Unfit, Window
from storage.agent.inspection.readers import READERS


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
    examined = READERS[found](file, limits)
    detection.second_opinion(file, found)
    return Disk(found, examined.virtual_bytes, file.start, file.size, name), examined.notes
