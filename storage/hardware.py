"""What the machines that boot an image are made of: which parts there are, and which go together.

Hosts and the control plane share these rules, so this module stands on nothing. A wish is
{"firmware", "machine_type", "disk_bus", "nic_bus"}; what is left out or "" is chosen here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

MACHINES = {"x86_64": ("q35", "pc"), "aarch64": ("virt",), "riscv64": ("virt",)}
FIRMWARES = {"x86_64": ("bios", "uefi"), "aarch64": ("uefi",), "riscv64": ()}
DISK_BUSES = {"q35": ("virtio", "scsi", "sata"), "pc": ("virtio", "scsi", "sata", "ide"), "virt": ("virtio", "scsi")}
NIC_BUSES = {
    "q35": ("virtio", "e1000e", "e1000", "rtl8139"),
    "pc": ("virtio", "e1000e", "e1000", "rtl8139"),
    "virt": ("virtio",),
}
NAMES = {
    "bios": "BIOS", "uefi": "UEFI", "pc": "pc (i440FX)", "scsi": "virtio SCSI", "sata": "SATA", "ide": "IDE",
}  # fmt: skip
HOT_PLUG_BUSES = ("virtio", "scsi")  # of disks; NICs of every kind come and go
READ_ONLY_BUSES = ("virtio", "scsi")  # with disks that refuse writes
# With the disk that it boots from. IDE has four places, and two of them are CD drives.
MAX_DISKS = {"virtio": 8, "scsi": 8, "sata": 6, "ide": 2}


@dataclass(frozen=True)
class Hardware:
    """What one machine is made of, with nothing left open. `firmware` "": the only one that there is."""

    machine_type: str
    firmware: str
    disk_bus: str
    nic_bus: str

    @property
    def words(self) -> tuple[str, ...]:
        """All of it, as hosts offer it."""
        return tuple(word for word in asdict(self).values() if word)

    @property
    def is_plain(self) -> bool:
        """Whether it is what every hypervisor makes by itself."""
        plain = ("virtio", "virtio")
        return (self.disk_bus, self.nic_bus) == plain and self.machine_type != "pc" and self.firmware in ("", "bios")


def disk_bus(wish: Mapping[str, str]) -> str:
    return wish.get("disk_bus") or "virtio"


def cd_bus(wish: Mapping[str, str], *, system: str, from_iso: bool) -> str:
    """What a CD drive is on: "scsi" for an installed Linux with virtio, as kernels of clouds know nothing else. ""
    is what everything else knows, also systems that get their drivers from a CD: SATA, or IDE on the older machine."""
    return "scsi" if system == "linux" and not from_iso and disk_bus(wish) in ("virtio", "scsi") else ""


def resolve(architecture: str, wish: Mapping[str, str]) -> Hardware:
    """Choose what the wish leaves open. Parts of before PCI Express go with a machine of that time."""
    disks, nic_bus = disk_bus(wish), wish.get("nic_bus") or "virtio"
    machine_type = wish.get("machine_type") or ""
    if not machine_type:
        is_old = disks == "ide" or nic_bus in ("e1000", "rtl8139")
        machine_type = "pc" if is_old and architecture == "x86_64" else MACHINES[architecture][0]
    firmware = wish.get("firmware") or next(iter(FIRMWARES[architecture]), "")
    # The only firmware of an architecture is no choice.
    return Hardware(machine_type, firmware if len(FIRMWARES[architecture]) > 1 else "", disks, nic_bus)


def faults(architecture: str, wish: Mapping[str, str], *, own_kernel: bool = False) -> dict[str, str]:
    """What of a wish cannot be: a sentence for each field. `own_kernel`: the image has its kernel as a file."""
    found: dict[str, str] = {}
    hardware = resolve(architecture, wish)
    machines, firmwares = MACHINES[architecture], FIRMWARES[architecture]
    machine_type, firmware = hardware.machine_type, wish.get("firmware") or ""
    if machine_type not in machines:
        found["machine_type"] = f"There is no {name(machine_type)} for {architecture}: take {_either(machines)}."
        machine_type = machines[0]
    if firmware and firmware not in firmwares:
        those = f"take {_either(firmwares)}" if firmwares else "it has one of its own, so leave this empty"
        found["firmware"] = f"There is no {name(firmware)} for {architecture}: {those}."
    elif own_kernel and firmware == "uefi" and architecture == "x86_64":
        found["firmware"] = "UEFI does not start a kernel that is a file beside the disk: take BIOS, or leave it empty."
    for field, buses in (("disk_bus", DISK_BUSES), ("nic_bus", NIC_BUSES)):
        bus = getattr(hardware, field)
        if bus not in buses[machine_type]:
            words = f"The machine type {name(machine_type)} has no {name(bus)}: take {_either(buses[machine_type])}"
            other = next((one for one in machines if bus in buses[one]), "")
            found[field] = f"{words}, or the machine type {name(other)}." if other else f"{words}."
    return found


def name(word: str) -> str:
    return NAMES.get(word, word)


def _either(words: tuple[str, ...]) -> str:
    *most, last = (name(word) for word in words)
    return f"{', '.join(most)} or {last}" if most else last
