"""What the emulator's process is told about one machine: a pure function, with golden tests.

The document's form is in `board/process.py`. Every disk is told with its format; nothing is probed.
"""

from pathlib import Path
from typing import Any

from compute.agent.homes import Home
from compute.agent.nics import Nic

ARCHITECTURE = "riscv64"
MEMORY_MIB = range(64, 1025)


def describe(
    spec: dict[str, Any],
    home: Home,
    files: dict[str, Path],
    *,
    nics: tuple[Nic, ...] = (),
    saved: Path | None = None,
    is_clone: bool = False,
    exact_stops: bool | None = None,
) -> dict[str, Any]:
    """The machine of `spec` with its image's `files` by role; `saved`: paused where it, or another, was saved.

    `exact_stops` is what the engine's self-test found on this host; None: the process does it again, which takes 20 ms.
    """
    generation = "new" if is_clone else "same"
    going_on = {"restore": str(saved), "generation": generation, "paused": True} if saved else {}
    return going_on | {
        "memory_mib": int(spec["memory_mib"]),
        "kernel": str(files["kernel"]),
        "initrds": [str(files["initrd"])] if "initrd" in files else [],
        "command_line": spec["image"].get("kernel_command_line") or "",
        "disks": [_root(spec, home, files), _seed(home)],
        "nics": [{"mac": nic.mac, **_network(spec, nic)} for nic in nics],
        "control": str(home.control_socket),
        "serial": str(home.serial_socket),
        "console_log": str(home.console_log),
        "exact_stops": exact_stops,
    }


def _network(spec: dict[str, Any], nic: Nic) -> dict[str, Any]:
    if nic.descriptor is None:
        return {"network": "isolated", "hostname": spec["seed"]["hostname"]}
    return {"network": "descriptor", "descriptor": nic.descriptor}


def _root(spec: dict[str, Any], home: Home, files: dict[str, Path]) -> dict[str, Any]:
    """/dev/vda: an overlay over the image's own disk where it has one."""
    base = None
    if "disk" in files:
        image_format = next(file["format"] for file in spec["image"]["files"] if file["role"] == "disk")
        base = {"path": str(files["disk"]), "format": image_format}
    return {"path": str(home.disk), "format": "qcow2", "base": base, "serial": spec["id"][:20]}


def _seed(home: Home) -> dict[str, Any]:
    """The last disk, so that volumes keep the letters that they have under other hypervisors."""
    return {"path": str(home.seed), "format": "raw", "read_only": True, "serial": "cidata"}
