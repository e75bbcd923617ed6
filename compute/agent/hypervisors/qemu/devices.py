"""Disks and NICs as QEMU's devices: pure functions, for the command line and for hot-plugging.

Each is behind its own PCI Express root port, given by its slot, so that it can be hot-plugged and has the same address
when a suspended machine resumes.
Source: QEMU QMP Reference Manual, BlockdevOptions and Netdev; qemu(1).
"""

from string import ascii_lowercase
from typing import Any

from agent.errors import YOU, Refused
from compute.agent.disks import Disk, Layer, Limits
from compute.agent.nics import Nic

# The first disk, then the NICs, then the other disks. Each further eight ports make a guest's boot about 5 % longer.
MAX_NICS = 8
MAX_DISKS = 8
PORTS = MAX_NICS + MAX_DISKS


def port_of_disk(slot: int) -> str:
    """Raises Refused when there are not so many."""
    if slot >= MAX_DISKS:
        raise Refused(f"a machine has at most {MAX_DISKS} disks, and none in slot {slot}", fix_by=YOU)
    return f"port{MAX_NICS + slot if slot else 0}"


def port_of_nic(slot: int) -> str:
    """Raises Refused when there are not so many."""
    if slot >= MAX_NICS:
        raise Refused(f"a machine has at most {MAX_NICS} NICs, and none in slot {slot}", fix_by=YOU)
    return f"port{1 + slot}"


def layer(layer: Layer, number_of_set: int, *, below: Layer | None, read_only: bool) -> list[dict[str, Any]]:
    """The nodes of a layer whose open file is in a set of file descriptors: the file, and what is in it."""
    access = {"read-only": True, "auto-read-only": False} if read_only else {"discard": "unmap"}
    file = {"driver": "file", "filename": f"/dev/fdset/{number_of_set}", "node-name": f"{layer.name}-file"}
    content: dict[str, Any] = {"driver": layer.format, "node-name": layer.name, "file": f"{layer.name}-file"}
    if below:
        content["backing"] = below.name
    elif layer.format == "qcow2":
        content["backing"] = None  # ignore the backing file in its header
    return [file | access, content | access]


def disk(disk: Disk) -> dict[str, Any]:
    # When the host's disk is full the guest pauses; every other error is reported to the guest.
    boots = {"bootindex": 1} if disk.slot == 0 else {}
    return {
        "driver": "virtio-blk-pci",
        "id": device_of_disk(disk.slot),
        "drive": disk.layers[-1].name,
        "bus": port_of_disk(disk.slot),
        "serial": disk.serial,
        "werror": "enospc",
        "rerror": "report",
    } | boots


def device_of_disk(slot: int) -> str:
    return f"vd{ascii_lowercase[slot]}-device"


def throttle(slot: int, limits: Limits) -> dict[str, Any]:
    """The arguments of block_set_io_throttle, where 0 is no limit."""
    detailed = {f"{unit}_{way}": 0 for unit in ("bps", "iops") for way in ("rd", "wr")}
    total = {"bps": limits.bytes_per_second or 0, "iops": limits.iops or 0}
    return {"id": f"/machine/peripheral/{device_of_disk(slot)}/virtio-backend", **total, **detailed}


def netdev(nic: Nic, hostname: str, file: str | None = None) -> dict[str, Any]:
    """A port's tap, or the open file with that name in QEMU. Without a port: user-mode networking that answers DHCP and
    reaches nothing, not even the host."""
    if nic.descriptor is None:
        return {"type": "user", "id": netdev_of_nic(nic.slot), "restrict": True, "hostname": hostname}
    return {"type": "tap", "id": netdev_of_nic(nic.slot), "fd": file or str(nic.descriptor), "vhost": False}


def netdev_of_nic(slot: int) -> str:
    return f"nic{slot}"


def device_of_nic(slot: int) -> str:
    return f"nic{slot}-device"


def nic(nic: Nic) -> dict[str, Any]:
    mtu = {} if nic.descriptor is None else {"host_mtu": nic.mtu}
    return {
        "driver": "virtio-net-pci",
        "id": device_of_nic(nic.slot),
        "netdev": netdev_of_nic(nic.slot),
        "mac": nic.mac,
        "bus": port_of_nic(nic.slot),
        **mtu,
        "romfile": "",
    }
