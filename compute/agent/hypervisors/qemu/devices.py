"""Disks and NICs as QEMU's devices: pure functions, for the command line and for hot-plugging.

Each has a place of its own, given by its slot: it can be hot-plugged there, and is there again when a suspended machine
resumes. On PCI that is a PCI Express root port, or on the older machine `pc` a device number of its only bus.
Source: QEMU QMP Reference Manual, BlockdevOptions and Netdev; qemu(1).
"""

from string import ascii_lowercase
from typing import Any

from agent.errors import YOU, Refused
from compute.agent.disks import Disk, Layer, Limits
from compute.agent.nics import Nic
from storage import hardware as parts
from storage.hardware import Hardware

# The first disk, then the NICs, then the other disks. Each further eight ports make a guest's boot about 5 % longer.
MAX_NICS = 8
MAX_DISKS = 8
PORTS = MAX_NICS + MAX_DISKS
FIRST_NIC_OF_PC, FIRST_DISK_OF_PC = 0x8, 0x10  # device numbers on its bus
OF_A_FILE = "-file"  # suffix of a layer's name: its file, as it is on the host
CHANNELS, CHANNEL_TO_AGENT = "channels", "agent"  # the device with channels to the guest; the only one's name in QEMU


def place_of_disk(slot: int, hardware: Hardware) -> dict[str, Any]:
    """Where a disk goes. Raises Refused when there are not so many."""
    most = parts.MAX_DISKS[hardware.disk_bus]
    if slot >= most:
        where = f" on {parts.name(hardware.disk_bus)}" if most < MAX_DISKS else ""
        raise Refused(f"a machine has at most {most} disks{where}, and none in slot {slot}", fix_by=YOU)
    if hardware.disk_bus == "scsi":
        return {"bus": "scsi.0", "scsi-id": slot + 1}  # the CD-ROM with the seed is 0
    if hardware.disk_bus == "sata":
        return {"bus": f"sata.{slot}"}
    if hardware.disk_bus == "ide":
        return {"bus": "ide.0", "unit": slot}
    if hardware.machine_type == "pc":
        return {"bus": "pci.0", "addr": hex(FIRST_DISK_OF_PC + slot)}
    return {"bus": f"port{MAX_NICS + slot if slot else 0}"}


def place_of_nic(slot: int, hardware: Hardware) -> dict[str, Any]:
    """Where a NIC goes. Raises Refused when there are not so many."""
    if slot >= MAX_NICS:
        raise Refused(f"a machine has at most {MAX_NICS} NICs, and none in slot {slot}", fix_by=YOU)
    if hardware.machine_type == "pc":
        return {"bus": "pci.0", "addr": hex(FIRST_NIC_OF_PC + slot)}
    return {"bus": f"port{1 + slot}"}


def remote(layer: Layer, connection: str, *, read_only: bool, name: str = "") -> list[dict[str, Any]]:
    """The nodes of a layer that is no file: its connection, by the descriptor or by what QEMU calls it, and what comes
    over that. `name`: of the first one, where another is in use."""
    access, name = _access(read_only=read_only), name or f"{layer.name}{OF_A_FILE}"
    connected = {"driver": "nbd", "server": {"type": "fd", "str": connection}, "node-name": name}
    return [connected | access, {"driver": layer.format, "node-name": layer.name, "file": name} | access]


def _access(*, read_only: bool) -> dict[str, Any]:
    return {"read-only": True, "auto-read-only": False} if read_only else {"discard": "unmap"}


def layer(layer: Layer, number_of_set: int, *, below: Layer | None, read_only: bool) -> list[dict[str, Any]]:
    """The nodes of a layer whose open file is in a set of file descriptors: the file, and what is in it."""
    access = _access(read_only=read_only)
    file = {"driver": "file", "filename": f"/dev/fdset/{number_of_set}", "node-name": f"{layer.name}{OF_A_FILE}"}
    content: dict[str, Any] = {"driver": layer.format, "node-name": layer.name, "file": f"{layer.name}{OF_A_FILE}"}
    if below:
        content["backing"] = below.name
    elif layer.format == "qcow2":
        content["backing"] = None  # ignore the backing file in its header
    return [file | access, content | access]


DISK_DRIVERS = {"virtio": "virtio-blk-pci", "scsi": "scsi-hd", "sata": "ide-hd", "ide": "ide-hd"}
NIC_DRIVERS = {"virtio": "virtio-net-pci", "e1000e": "e1000e", "e1000": "e1000", "rtl8139": "rtl8139"}
DRIVERS = {**NIC_DRIVERS, "scsi": "scsi-hd", "sata": "ich9-ahci"}  # of QEMU, some of which distributions leave out


DEVICE_OF_CD = "cd-device"


def cdrom(hardware: Hardware, bus: str = "", medium: str = "") -> dict[str, Any]:
    """A CD drive, on virtio SCSI if `bus` is "scsi", else on what every system has drivers for: SATA, or IDE on the
    older machine. `medium`: the name of the layer in it. A disk that can be booted goes first."""
    drive = {"id": DEVICE_OF_CD, **({"drive": medium} if medium else {}), "bootindex": 2}
    if bus == "scsi" or hardware.machine_type == "virt":
        return {"driver": "scsi-cd", **drive, "bus": "scsi.0", "scsi-id": 15}
    place: dict[str, Any] = {"bus": "ide.1", "unit": 0} if hardware.machine_type == "pc" else {"bus": "ide.0"}
    return {"driver": "ide-cd", **drive, **place}


def disk(disk: Disk, hardware: Hardware) -> dict[str, Any]:
    """Raises Refused for what its bus cannot have."""
    if disk.is_cdrom:
        return cdrom(hardware, disk.cd_bus, disk.layers[-1].name)
    if disk.read_only and hardware.disk_bus not in parts.READ_ONLY_BUSES:
        raise Refused(f"a disk on {parts.name(hardware.disk_bus)} cannot be read-only", fix_by=YOU)
    # When the host's disk is full the guest pauses; every other error is reported to the guest.
    boots = {"bootindex": 1} if disk.slot == 0 else {}
    return {
        "driver": DISK_DRIVERS[hardware.disk_bus],
        "id": device_of_disk(disk.slot),
        "drive": disk.layers[-1].name,
        **place_of_disk(disk.slot, hardware),
        "serial": disk.serial,
        "werror": "enospc",
        "rerror": "report",
    } | boots


def device_of_disk(slot: int) -> str:
    return f"vd{ascii_lowercase[slot]}-device"


def block_of_disk(slot: int, hardware: Hardware) -> str:
    """What QEMU calls the device that has a disk's blocks."""
    device = device_of_disk(slot)
    return f"/machine/peripheral/{device}/virtio-backend" if hardware.disk_bus == "virtio" else device


def throttle(slot: int, limits: Limits, hardware: Hardware) -> dict[str, Any]:
    """The arguments of block_set_io_throttle, where 0 is no limit."""
    detailed = {f"{unit}_{way}": 0 for unit in ("bps", "iops") for way in ("rd", "wr")}
    total = {"bps": limits.bytes_per_second or 0, "iops": limits.iops or 0}
    return {"id": block_of_disk(slot, hardware), **total, **detailed}


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


def nic(nic: Nic, hardware: Hardware) -> dict[str, Any]:
    # Guests with other NICs learn the MTU by DHCP.
    tells_mtu = nic.descriptor is not None and hardware.nic_bus == "virtio"
    return {
        "driver": NIC_DRIVERS[hardware.nic_bus],
        "id": device_of_nic(nic.slot),
        "netdev": netdev_of_nic(nic.slot),
        "mac": nic.mac,
        **place_of_nic(nic.slot, hardware),
        **({"host_mtu": nic.mtu} if tells_mtu else {}),
        "romfile": "",
    }
