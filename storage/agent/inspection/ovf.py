"""The descriptor of an appliance: one machine, its disks and what it needs. Source: DMTF DSP0243, versions 1 and 2.

Only what an import uses is read. Whatever contradicts itself is refused rather than guessed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from storage import traits, uefi
from storage.agent.inspection.common import MAX_FILE_BYTES, MIB, Machine, Unfit, printable, safe_name

MAX_BYTES = 4 * MIB
MAX_ELEMENTS = 100_000
NAMESPACES = ("http://schemas.dmtf.org/ovf/envelope/1", "http://schemas.dmtf.org/ovf/envelope/2")
VMWARE = "http://www.vmware.com/schema/ovf"
CPU, MEMORY, NIC, DISK, OTHER_STORAGE, TPM = "3", "4", "10", "17", "20", "40000"

IDE = "5"
NICS = {
    "e1000": "e1000", "e1000e": "e1000e", "virtio": "virtio", "virtio-net": "virtio", "pcnet32": "rtl8139",
}  # what ours are called  # fmt: skip

_POWER = re.compile(r"byte \* 2\^(\d{1,2})")
_UNITS = {"": 1, "byte": 1, "bytes": 1, "kilobytes": 1 << 10, "megabytes": MIB, "gigabytes": 1 << 30}
_NUMBER = re.compile(r"\d{1,19}")
_AGAIN = "Export the machine again as an OVA."


@dataclass(frozen=True)
class DiskPlan:
    """A disk that the machine has. `capacity`: its size in bytes; None: only the disk itself says."""

    file: str
    size: int | None
    capacity: int | None


@dataclass(frozen=True)
class Plan:
    """What is to be imported."""

    machine: Machine
    disks: tuple[DiskPlan, ...]
    notes: tuple[str, ...]
    uefi: str = ""


@dataclass(frozen=True)
class _File:
    name: str
    size: int | None


def read(content: bytes) -> Plan:
    """Read a descriptor. Raises Unfit."""
    root = _parse(content)
    namespace = _namespace(root)
    return _Reader(root, namespace).plan()


def _parse(content: bytes) -> Element:
    if len(content) > MAX_BYTES:
        raise Unfit(f"Its OVF descriptor is longer than {MAX_BYTES >> 20} MiB. {_AGAIN}")
    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except DefusedXmlException as problem:
        raise Unfit(f"Its OVF descriptor has a document type or entities, which are not read. {_AGAIN}") from problem
    except (ParseError, ValueError, LookupError) as problem:
        raise Unfit(f"Its OVF descriptor is not well-formed XML: {problem}. {_AGAIN}") from problem
    if sum(1 for _ in root.iter()) > MAX_ELEMENTS:
        raise Unfit(f"Its OVF descriptor has more than {MAX_ELEMENTS:,} elements. {_AGAIN}")
    return root


def _namespace(root: Element) -> str:
    namespace, _, name = root.tag.rpartition("}")
    namespace = namespace.lstrip("{")
    if name != "Envelope":
        raise Unfit(f"Its descriptor is no OVF: it begins with {printable(name)}. {_AGAIN}")
    if namespace in NAMESPACES:
        return namespace
    if namespace.rstrip("/") in NAMESPACES:
        raise Unfit("It is the OVF of an oVirt storage domain, not a standard one. Export the machine as an OVA.")
    version = next((value for key, value in root.attrib.items() if key.rpartition("}")[2] == "version"), "")
    if version.startswith("0.") or "vmware.com/schema/ovf" in namespace:
        raise Unfit("It is of the old OVF 0.9, and versions 1 and 2 are taken. Export it with a newer program.")
    words = printable(version or namespace or "nothing")
    raise Unfit(f"It is of an unknown version of OVF ({words}), and versions 1 and 2 are taken. {_AGAIN}")


class _Reader:
    """Reads one descriptor. Every method raises Unfit."""

    def __init__(self, root: Element, namespace: str) -> None:
        self._root, self._namespace = root, namespace
        self._notes: list[str] = []

    def plan(self) -> Plan:
        files = self._files()
        disks = self._disks(files)
        systems = self._all("VirtualSystem")
        if len(systems) > 1:
            raise Unfit("It holds more than one machine. Export each machine as an OVA of its own.")
        if not systems:
            raise Unfit(f"Its OVF descriptor describes no machine as OVF 1 and 2 do. {_AGAIN}")
        system = systems[0]
        hardware = self._find(system, "VirtualHardwareSection")
        if hardware is None:
            raise Unfit(f"Its OVF descriptor says nothing of the machine's hardware. {_AGAIN}")
        items = list(self._items(hardware))
        used = self._used_disks(items, disks)
        machine = Machine(
            name=self._name(system),
            os=self._os(system),
            cpus=self._number_of(items, CPU, "processors", 1),
            memory_mib=self._memory(items),
            firmware=self._firmware(system, hardware),
            nics=sum(item.get("ResourceType") == NIC for item in items),
            disk_bus=self._disk_bus(items),
            nic_bus=self._nic_bus(items),
        )
        machine = replace(machine, **self._traits(hardware))
        if any(item.get("ResourceType") == TPM or "vtpm" in item.get("ResourceSubType", "").lower() for item in items):
            self._notes.append("The machine's virtual TPM is left out, with all keys in it.")
        if any(file.name.lower().endswith(".nvram") for file in files.values()):
            self._notes.append("The firmware's settings (NVRAM) are left out.")
        return Plan(machine, tuple(used), tuple(self._notes), self._uefi(hardware))

    # References and disks

    def _files(self) -> dict[str, _File]:
        files: dict[str, _File] = {}
        for element in self._all("File"):
            name, key = self._get(element, "href"), self._get(element, "id")
            if re.match(r"[a-zA-Z][\w+.-]*://", name):
                raise Unfit(f"Its file {printable(name)} is on the network. Nothing is fetched. {_AGAIN}")
            if not safe_name(name):
                raise Unfit(f"Its file {printable(name)!r} would be outside of the archive. {_AGAIN}")
            if not key or key in files:
                raise Unfit(f"Its OVF descriptor has the file id {printable(key)!r} twice, or a file without one.")
            if self._get(element, "compression") not in ("", "identity"):
                raise Unfit(f"Its file {printable(name)} is compressed a second time. Export it without compression.")
            if self._get(element, "chunkSize"):
                raise Unfit(f"Its file {printable(name)} is cut into parts. Export it without parts.")
            if any(file.name == name for file in files.values()):
                raise Unfit(f"Its OVF descriptor lists the file {printable(name)} twice.")
            size = self._get(element, "size")
            files[key] = _File(name, self._size(size, f"size of {printable(name)}") if size else None)
        return files

    def _disks(self, files: dict[str, _File]) -> dict[str, DiskPlan]:
        disks: dict[str, DiskPlan] = {}
        for element in self._all("Disk"):
            key, reference = self._get(element, "diskId"), self._get(element, "fileRef")
            words = printable(key)
            if not key or key in disks:
                raise Unfit(f"Its OVF descriptor has the disk id {words!r} twice, or a disk without one. {_AGAIN}")
            if self._get(element, "parentRef"):
                raise Unfit(f"Its disk {words} holds only what differs from another disk. Consolidate it first.")
            capacity = self._get(element, "capacity")
            unit = self._unit(self._get(element, "capacityAllocationUnits"))
            size = self._size(capacity, f"capacity of the disk {words}", unit) if capacity else None
            if size == 0:
                raise Unfit(f"Its disk {words} has no capacity. {_AGAIN}")
            populated = self._get(element, "populatedSize")
            if populated and size and self._size(populated, f"populated size of the disk {words}") > size:
                raise Unfit(f"Its disk {words} would hold more than its capacity. {_AGAIN}")
            if not reference:
                raise Unfit(f"Its disk {words} has no file. Add the empty disk after the import, as a volume.")
            if reference not in files:
                raise Unfit(f"The file of its disk {words} is not in the list of files. {_AGAIN}")
            file = files[reference]
            if any(disk.file == file.name for disk in disks.values()):
                raise Unfit(f"Two of its disks are in the same file, {printable(file.name)}. {_AGAIN}")
            disks[key] = DiskPlan(file.name, file.size, size)
        if not disks:
            raise Unfit("It has no disk. There is nothing to make an image of.")
        return disks

    def _used_disks(self, items: list[dict[str, str]], disks: dict[str, DiskPlan]) -> list[DiskPlan]:
        """The disks of the machine, in the order in which it has them; then those that it has not attached."""
        used: list[DiskPlan] = []
        left_out: list[DiskPlan] = []
        controllers = {item["InstanceID"] for item in items}
        for item in items:
            if item.get("ResourceType") not in (DISK, OTHER_STORAGE):
                continue
            resource = item.get("HostResource", "")
            if item["ResourceType"] == OTHER_STORAGE and not resource:
                continue
            key = resource.removeprefix("ovf:").removeprefix("/disk/")
            if key not in disks or key == resource:
                raise Unfit(
                    f"Its machine has a disk {printable(resource)!r} that is not in the list of disks. {_AGAIN}"
                )
            if item.get("Parent", "") not in ("", *controllers):
                raise Unfit(f"Its disk {printable(key)} is at a controller that the machine has not. {_AGAIN}")
            if item["ResourceType"] == OTHER_STORAGE:
                left_out.append(disks[key])
                self._notes.append(f"Its NVDIMM {printable(disks[key].file)} is left out.")
            elif disks[key] not in used:
                used.append(disks[key])
        if not used:
            raise Unfit("Its machine has no disk. There is nothing to make an image of.")
        return used + [disk for disk in disks.values() if disk not in used and disk not in left_out]

    # The machine

    def _items(self, hardware: Element) -> Iterator[dict[str, str]]:
        """The hardware items of the default configuration, by the names of their fields."""
        default = self._default_configuration()
        seen: set[tuple[str, str]] = set()
        for element in hardware:
            if element.tag.rpartition("}")[2] not in ("Item", "StorageItem", "EthernetPortItem"):
                continue
            configurations = self._get(element, "configuration")
            item = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in element}
            item["InstanceID"] = item.get("InstanceID") or item.get("InstanceId", "")
            identity = (item["InstanceID"], configurations)
            if not item["InstanceID"] or identity in seen:
                raise Unfit(f"Its hardware has the item {printable(item['InstanceID'])!r} twice. {_AGAIN}")
            if not _NUMBER.fullmatch(item.get("ResourceType", "")):
                raise Unfit(f"Its hardware item {printable(item['InstanceID'])} has no type. {_AGAIN}")
            seen.add(identity)
            if not configurations or default in configurations.split():
                yield item

    def _default_configuration(self) -> str:
        options = self._all("Configuration")
        chosen = [option for option in options if self._get(option, "default") in ("true", "1")] or options[:1]
        if options:
            name = self._get(chosen[0], "id")
            self._notes.append(f"Of its configurations, {printable(name)} is taken.")
            return name
        return ""

    def _number_of(self, items: list[dict[str, str]], kind: str, what: str, unit: int) -> int | None:
        # An item of the chosen configuration comes after the general one, and counts.
        quantities = [item.get("VirtualQuantity", "") for item in items if item.get("ResourceType") == kind]
        return self._size(quantities[-1], f"number of {what}", unit) or None if quantities else None

    def _memory(self, items: list[dict[str, str]]) -> int | None:
        units = [item.get("AllocationUnits", "") for item in items if item.get("ResourceType") == MEMORY]
        if not units:
            return None
        found = self._number_of(items, MEMORY, "bytes of memory", self._unit(units[-1] or "MegaBytes"))
        return -(-found // MIB) if found else None

    def _firmware(self, system: Element, hardware: Element) -> str:
        for element in hardware.iter(f"{{{VMWARE}}}Config"):
            key, value = element.get(f"{{{VMWARE}}}key", ""), element.get(f"{{{VMWARE}}}value", "")
            if key == "firmware" and value.lower() == "efi":
                return "uefi"
        kinds = (element.get("type", "") for element in system.iter() if element.tag.rpartition("}")[2] == "Firmware")
        return "uefi" if any(kind.upper().startswith("EFI") for kind in kinds) else "bios"

    def _disk_bus(self, items: list[dict[str, str]]) -> str:
        """Where the first disk is. SCSI controllers of other programs are none of ours, so nothing is said of them."""
        parent = next((item.get("Parent", "") for item in items if item.get("ResourceType") == DISK), "")
        controller = next((item for item in items if item["InstanceID"] == parent), {})
        kind, model = controller.get("ResourceType", ""), controller.get("ResourceSubType", "").lower()
        if kind == IDE:
            return "ide"
        return "sata" if kind == OTHER_STORAGE and ("ahci" in model or "sata" in model) else ""

    def _nic_bus(self, items: list[dict[str, str]]) -> str:
        models = (item.get("ResourceSubType", "").lower() for item in items if item.get("ResourceType") == NIC)
        return NICS.get(next(models, ""), "")

    def _traits(self, hardware: Element) -> dict[str, Any]:
        """What an appliance of ours says of its image; it counts more than what OVF has words for. {}: it is none."""
        found = hardware.findall(traits.ELEMENT)
        if len(found) > 1:
            raise Unfit(f"It says twice what its image is. {_AGAIN}")
        if not found:
            return {}
        said: dict[str, Any] = {name: value for name in traits.NAMES if (value := found[0].get(name, ""))}
        if said.get("cloud_init") in ("true", "false"):
            said["cloud_init"] = said["cloud_init"] == "true"
        known = traits.known(said)
        for name in (name for name in said if name not in known):
            words = f"{name} {printable(said[name])!r}"
            self._notes.append(f"It says that its image has the {words}. That is not known here, and left out.")
        return dict.fromkeys(traits.HARDWARE, "") | known

    def _uefi(self, hardware: Element) -> str:
        """What UEFI has kept, from an appliance of ours."""
        text = hardware.findtext(f"{traits.ELEMENT}/{traits.UEFI_ELEMENT}", "").strip()
        try:
            return text and uefi.to_text(uefi.from_text(text))
        except ValueError as problem:
            raise Unfit(f"Its UEFI settings are damaged. {_AGAIN}") from problem

    def _name(self, system: Element) -> str:
        name = self._find(system, "Name")
        return printable((name.text if name is not None else "") or self._get(system, "id"))

    def _os(self, system: Element) -> str:
        section = self._find(system, "OperatingSystemSection")
        if section is None:
            return ""
        description = self._find(section, "Description")
        words = section.get(f"{{{VMWARE}}}osType", "") or (description.text if description is not None else "") or ""
        if re.search("win", words, re.IGNORECASE) and not re.search("darwin", words, re.IGNORECASE):
            return "windows"
        if re.search("bsd", words, re.IGNORECASE):
            return "bsd"
        names = "linux|ubuntu|debian|rhel|red ?hat|centos|fedora|suse|sles|oracle|alma|rocky|photon|coreos|arch|gentoo"
        return "linux" if re.search(names, words, re.IGNORECASE) else "other"

    # Values

    def _size(self, text: str, what: str, unit: int = 1) -> int:
        if not _NUMBER.fullmatch(text):
            raise Unfit(f"The {what} is {printable(text)!r}, which is no number that can be used. {_AGAIN}")
        if int(text) * unit > MAX_FILE_BYTES:
            raise Unfit(f"The {what} is {printable(text)}, which is more than there can be. {_AGAIN}")
        return int(text) * unit

    def _unit(self, text: str) -> int:
        power = _POWER.fullmatch(text.strip())
        if power and int(power[1]) <= 60:
            return 1 << int(power[1])
        if text.strip().lower() not in _UNITS:
            raise Unfit(f"It counts in {printable(text)!r}, which is no unit that is known here. {_AGAIN}")
        return _UNITS[text.strip().lower()]

    def _get(self, element: Element, name: str) -> str:
        return (element.get(f"{{{self._namespace}}}{name}") or element.get(name) or "").strip()

    def _find(self, element: Element, name: str) -> Element | None:
        return element.find(f"{{{self._namespace}}}{name}")

    def _all(self, name: str) -> list[Element]:
        return list(self._root.iter(f"{{{self._namespace}}}{name}"))
