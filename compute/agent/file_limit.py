"""How large the files of a machine may become that its emulator writes: as large as it can need, and no larger.

The limit is set at the start, and lifted for a larger disk, and for what the agent frees of a log. It is never lowered:
a file of that size may be there. What an emulator writes beyond it is an error for the guest, or is not in the log.
"""

from collections.abc import Sequence
from typing import Any

from agent import folders, jail
from agent.jail import Jail
from agent.processes import Process
from compute.agent import suspension
from compute.agent.disks import BASE, GIB, Disk
from compute.agent.homes import Home
from storage.agent import qcow2

COMPRESSION = 16  # a file system that compresses frees so much less than was written to a log


def needed(spec: dict[str, Any], disks: Sequence[Disk], home: Home) -> int:
    """In bytes, with an eighth and a GiB for what qcow2 has besides, as its tables."""
    sizes = [int(spec["disk_gib"]) * GIB, suspension.max_bytes(int(spec["memory_mib"]))]
    sizes += [disk.size_bytes for disk in disks]
    # An image's disk may be larger than was asked for. A volume is never smaller than its image.
    images = [disk.layers[0] for disk in disks if disk.layers[0].name == BASE]
    sizes += [qcow2.virtual_size(image.path, image.format) for image in images]
    logs = [status.st_size for log in (home.console_log, home.emulator_log) if (status := folders.status(log))]
    return max(sizes) * 9 // 8 + GIB + max(logs, default=0)


def lift(process: Process, file_bytes: int, jail_: Jail, uid: int | None) -> None:
    """Let an emulator write files of that size. Raises Refused."""
    jail.raise_file_limit(process, jail_.confine(uid, file_bytes=file_bytes))


def lift_for_log(process: Process, freed: int, jail_: Jail, uid: int | None) -> None:
    """The same for a log of which so many bytes were freed: its end moves on. Raises Refused.

    Only what was really written counts; otherwise an emulator could lift its limit by a log that is nothing but a hole.
    """
    if limit := process.file_limit():
        lift(process, limit + freed * COMPRESSION, jail_, uid)
