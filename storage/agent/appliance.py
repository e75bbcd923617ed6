"""An OVA that VirtualBox and VMware open: descriptor, manifest and disks in one archive. Source: DMTF DSP0243 1.1.

The fields of hardware items are in the order of the alphabet, as the schema of the CIM has them.
"""

import hashlib
import io
import re
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

from storage import traits

DISK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
HARDWARE = "vmx-13"  # of ESXi 6.5, which every later one runs; VirtualBox takes any
MAX_IN_USTAR = 8 << 30
# The id of the CIM and VMware's word for each system.
SYSTEMS = {
    "linux": (101, "otherLinux64Guest"),
    "windows": (103, "windows9Server64Guest"),
    "bsd": (78, "freebsd64Guest"),
}
OTHER_SYSTEM = (102, "otherGuest64")

ENVELOPE = """<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
    xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
    xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
    xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:pileus="{namespace}">
  <References>
{files}
  </References>
  <DiskSection>
    <Info>The disks of the machine</Info>
{disks}
  </DiskSection>
  <NetworkSection>
    <Info>The networks of the machine</Info>
    <Network ovf:name="network">
      <Description>Any network</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id={id}>
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="{system}" vmw:osType="{vmware_system}">
      <Info>The operating system of the guest</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>What the machine needs</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>{hardware}</vssd:VirtualSystemType>
      </System>
{items}{firmware}{traits}
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"""
EFI = '\n      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>'


@dataclass(frozen=True)
class DiskFile:
    """A stream-optimized VMDK, and the bytes that its guest sees."""

    path: Path
    virtual_bytes: int


def file_name(name: str) -> str:
    """A name for files, from a name that a tenant chose."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "machine"


def descriptor(machine: dict[str, Any], disks: Sequence[tuple[str, int, int]]) -> str:
    """The OVF of a machine. `disks`: name, size of the file and size for the guest of each. A pure function."""
    system, vmware_system = SYSTEMS.get(str(machine.get("os", "")), OTHER_SYSTEM)
    files = [
        f'    <File ovf:href={quoteattr(name)} ovf:id="file{number}" ovf:size="{size}"/>'
        for number, (name, size, _) in enumerate(disks, start=1)
    ]
    listed = [
        f'    <Disk ovf:capacity="{virtual}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk{number}" '
        f'ovf:fileRef="file{number}" ovf:format="{DISK_FORMAT}"/>'
        for number, (_, _, virtual) in enumerate(disks, start=1)
    ]
    return ENVELOPE.format(
        files="\n".join(files),
        disks="\n".join(listed),
        id=quoteattr(file_name(machine["name"])),
        name=escape(machine["name"]),
        system=system,
        vmware_system=vmware_system,
        hardware=HARDWARE,
        items="\n".join(_items(machine, len(disks))),
        firmware=EFI if machine.get("firmware") == "uefi" else "",
        namespace=traits.NAMESPACE,
        traits=_traits(machine["image"], machine.get("uefi", "")) if "image" in machine else "",
    )


def _traits(image: dict[str, Any], settings: str) -> str:
    """What the machine is where it came from, which may not be what it is for other programs: they pass over this.
    `settings`: those of UEFI, as `storage.uefi` has them."""
    known = traits.known(image)
    said = {name: str(value).lower() if isinstance(value, bool) else value for name, value in known.items()}
    fields = "".join(f" {name}={quoteattr(value)}" for name, value in said.items())
    inside = f">\n        <pileus:Uefi>{settings}</pileus:Uefi>\n      </pileus:Image>" if settings else "/>"
    return f'\n      <pileus:Image ovf:required="false"{fields}{inside}'


def _items(machine: dict[str, Any], disks: int) -> list[str]:
    cpus, memory = int(machine["cpus"]), int(machine["memory_mib"])
    items = [
        _item(AllocationUnits="hertz * 10^6", ElementName=f"{cpus} CPUs", ResourceType=3, VirtualQuantity=cpus),
        _item(
            AllocationUnits="byte * 2^20", ElementName=f"{memory} MiB of memory", ResourceType=4, VirtualQuantity=memory
        ),
        _item(Address=0, ElementName="SCSI controller", ResourceSubType="lsilogic", ResourceType=6),
    ]
    controller = len(items)
    for number in range(disks):
        # Of a SCSI bus, address 7 is the controller's own.
        address, resource = number + (number >= 7), f"ovf:/disk/vmdisk{number + 1}"
        name = f"disk {number + 1}"
        items.append(
            _item(AddressOnParent=address, ElementName=name, HostResource=resource, Parent=controller, ResourceType=17)
        )
    for number in range(int(machine.get("nics") or 0)):
        card = {"AutomaticAllocation": "true", "Connection": "network", "ElementName": f"NIC {number + 1}"}
        items.append(_item(AddressOnParent=number + 7, **card, ResourceSubType="E1000", ResourceType=10))
    return [item.replace("ID>?<", f"ID>{number}<") for number, item in enumerate(items, start=1)]


def _item(**fields: Any) -> str:
    inner = sorted({**fields, "InstanceID": "?"}.items())
    return "\n".join(
        ["      <Item>", *(f"        <rasd:{key}>{value}</rasd:{key}>" for key, value in inner), "      </Item>"]
    )


def write(target: Path, machine: dict[str, Any], disks: Sequence[DiskFile], check: Callable[[], None]) -> None:
    """Write an OVA into a new file; `check` is called while it is written, and may raise. Raises OSError."""
    name = file_name(machine["name"])
    names = [f"{name}-disk{number}.vmdk" for number, _ in enumerate(disks, start=1)]
    sizes = [disk.path.stat().st_size for disk in disks]
    virtual = [disk.virtual_bytes for disk in disks]
    ovf = descriptor(machine, list(zip(names, sizes, virtual, strict=True)))
    sums = {f"{name}.ovf": hashlib.sha256(ovf.encode()).hexdigest()}
    for disk_name, disk in zip(names, disks, strict=True):
        with disk.path.open("rb") as file:
            sums[disk_name] = hashlib.file_digest(_Checked(file, check), "sha256").hexdigest()  # type: ignore[arg-type]
    manifest = "".join(f"SHA256({member})= {value}\n" for member, value in sums.items())
    format_ = tarfile.USTAR_FORMAT if max(sizes) < MAX_IN_USTAR else tarfile.GNU_FORMAT
    with target.open("xb") as out, tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        _add(archive, f"{name}.ovf", len(ovf.encode()), io.BytesIO(ovf.encode()))
        _add(archive, f"{name}.mf", len(manifest), io.BytesIO(manifest.encode()))
        for disk_name, size, disk in zip(names, sizes, disks, strict=True):
            with disk.path.open("rb") as file:
                _add(archive, disk_name, size, _Checked(file, check))


class _Checked(io.RawIOBase):
    """A file that is read only as long as `check` does not raise."""

    def __init__(self, file: IO[bytes], check: Callable[[], None]) -> None:
        self._file, self._check = file, check

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._check()
        return int(self._file.readinto(buffer))  # type: ignore[attr-defined]


def _add(archive: tarfile.TarFile, name: str, size: int, content: Any) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, int(time.time())
    archive.addfile(info, content)
