"""The description of one machine for the emulator's process: a pure function, with golden tests.

`board/process.py` defines its format. Every disk has an explicit format; nothing is probed.
"""

from typing import Any

from agent.errors import YOU, Refused
from compute.agent.disks import Disk
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Boot
from compute.agent.nics import Nic

ARCHITECTURE = "riscv64"
MEMORY_MIB = range(64, 1025)


def describe(boot: Boot, *, exact_stops: bool | None = None) -> dict[str, Any]:
    """The machine to start. With `boot.saved` it resumes, paused, from what it or another machine saved.

    `exact_stops`: the result of the engine's self-test on this host; None: the process tests again, which takes 20 ms.
    """
    spec, home, files = boot.spec, boot.home, boot.files
    generation = "new" if boot.is_clone else "same"
    going_on = {"restore": str(boot.saved), "generation": generation, "paused": True} if boot.saved else {}
    return going_on | {
        "memory_mib": int(spec["memory_mib"]),
        "kernel": str(files["kernel"]),
        "initrds": [str(files["initrd"])] if "initrd" in files else [],
        "command_line": spec["image"].get("kernel_command_line") or "",
        "disks": [*(_disk(disk) for disk in boot.disks), _seed(home)],
        "nics": [{"mac": nic.mac, **_network(spec, nic)} for nic in boot.nics],
        "control": str(home.control_socket),
        "serial": str(home.serial_socket),
        "console_log": str(home.console_log),
        "exact_stops": exact_stops,
    }


def _network(spec: dict[str, Any], nic: Nic) -> dict[str, Any]:
    if nic.descriptor is None:
        return {"network": "isolated", "hostname": spec["seed"]["hostname"]}
    return {"network": "descriptor", "descriptor": nic.descriptor}


def _disk(disk: Disk) -> dict[str, Any]:
    base: dict[str, Any] | None = None
    for layer in disk.layers:
        if layer.remote:
            raise Refused("the embedded emulator can have no volumes in Ceph: use QEMU", fix_by=YOU)
        base = {"descriptor": layer.descriptor, "format": layer.format, "base": base}
    return {**(base or {}), "read_only": disk.read_only, "serial": disk.serial}


def _seed(home: Home) -> dict[str, Any]:
    """The last disk, so that volumes keep the letters that they have under other hypervisors."""
    return {"path": str(home.seed), "format": "raw", "read_only": True, "serial": "cidata"}
