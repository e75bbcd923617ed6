"""QEMU's command line for one machine: a pure function, with golden tests.

Everything is explicit: no default devices, no user configuration, no probing of image formats. Devices that
can be hot-plugged are behind PCI Express root ports, because q35 and virt support it only there; on pc the bus does.
Source: qemu(1) of 7.2.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compute.agent.disks import Disk
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Boot
from compute.agent.hypervisors.qemu import devices
from compute.agent.hypervisors.qemu.firmware import Uefi
from compute.agent.nics import Nic
from storage.hardware import Hardware

SLOTS_OF_PORTS = (0x4, 0x6)  # on the root bus: each has room for eight
# Without a limit the translation cache grows to 1 GiB per machine; above 32 MiB there is no measurable gain.
TRANSLATION_CACHE_MIB = 128
# Guests made for OpenStack ask at 169.254.169.254 only where the chassis says that somebody answers there.
SMBIOS = "type=3,manufacturer=Pileus,asset=OpenStack Nova"
AGENT = "org.qemu.guest_agent.0"  # where guests look for it
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class Accelerator:
    """`kind` is `tcg` or `kvm`; `binary` the emulator; `firmware` its image, where the board has none built in."""

    kind: str
    binary: str
    firmware: Path | None = None


@dataclass(frozen=True)
class Board:
    """The differences between machines. `bus`: its first one of PCI; `sata`: where a controller for disks goes on it;
    `seed`: where the CD-ROM with the seed goes when disks are on SATA or IDE.
    """

    machine: str
    cpu_under_tcg: str
    serial: tuple[str, ...]
    display: tuple[str, ...]
    bus: str = "pcie.0"
    sata: str = "addr=0x8"
    seed: str = ""


BOARDS = {
    "x86_64": Board(
        machine="q35,usb=off,vmport=off,dump-guest-core=off",
        cpu_under_tcg="max",
        serial=("-device", "isa-serial,chardev=serial"),
        display=("-device", "VGA,id=display,bus=pcie.0,addr=0x1,vgamem_mb=8"),
        seed="bus=ide.1",
    ),
    "aarch64": Board(
        machine="virt,gic-version=max,dump-guest-core=off",
        # Pointer authentication as the architecture specifies it costs seconds of every boot under emulation.
        cpu_under_tcg="max,pauth-impdef=on",
        serial=("-serial", "chardev:serial"),
        display=("-device", "virtio-gpu-pci,id=display,bus=pcie.0,addr=0x1"),
    ),
    "riscv64": Board(
        machine="virt,dump-guest-core=off",
        cpu_under_tcg="rv64",
        serial=("-serial", "chardev:serial"),
        display=("-device", "virtio-gpu-pci,id=display,bus=pcie.0,addr=0x1"),
    ),
}
PC = Board(
    machine="pc,usb=off,vmport=off,dump-guest-core=off",
    cpu_under_tcg="max",
    serial=("-device", "isa-serial,chardev=serial"),
    display=("-device", "VGA,id=display,bus=pci.0,addr=0x2,vgamem_mb=8"),
    bus="pci.0",
    sata="addr=0x6",
    seed="bus=ide.1,unit=1",
)


@dataclass(frozen=True)
class Made:
    """What a machine is made of. `uefi`: its files, if its firmware is UEFI; `ports`: its number of root ports;
    `has_channel`: to its guest's agent, which machines that an older release suspended go on without."""

    hardware: Hardware
    uefi: Uefi | None = None
    ports: int = devices.PORTS
    has_channel: bool = True

    def board(self, architecture: str) -> Board:
        return PC if self.hardware.machine_type == "pc" else BOARDS[architecture]


def arguments(boot: Boot, accelerator: Accelerator, made: Made) -> list[str]:
    """The arguments, program first, that run a machine; with `boot.saved` it waits for its state instead of booting.

    Raises Refused.
    """
    spec, home, files, hardware = boot.spec, boot.home, boot.files, made.hardware
    board = made.board(spec["architecture"])
    machine_id = str(uuid.UUID(spec["id"]))
    argv = [accelerator.binary, "-name", f"{machine_id},debug-threads=on", "-uuid", machine_id]
    argv += ["-smbios", SMBIOS] if spec["architecture"] != "riscv64" else []
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-msg", "timestamp=on", "-sandbox", SANDBOX]
    argv += [*_engine(board, accelerator, made), *_memory(spec), *_boot(spec, files, accelerator)]
    argv += _uefi(made.uefi, home) if made.uefi else []
    # Paused until the agent has closed the directory of its sockets. A guest that switches itself off leaves QEMU
    # waiting, so that its reason is still there when the agent looks.
    argv += ["-S", "-rtc", "base=utc", "-action", "reboot=reset,shutdown=pause,panic=none"]
    for name, path in (("control", home.control_socket), ("events", home.events_socket)):
        argv += ["-chardev", f"socket,id={name},path={_value(path)},server=on,wait=off"]
        argv += ["-mon", f"chardev={name},mode=control"]
    log = f"logfile={_value(home.console_log)},logappend=on"
    argv += ["-chardev", f"socket,id=serial,path={_value(home.serial_socket)},server=on,wait=off,{log}", *board.serial]
    argv += [*board.display, "-vnc", f"unix:{_value(home.vnc_socket)}"]
    if spec["architecture"] != "x86_64":  # a PC has a keyboard controller of its own
        argv += ["-device", "virtio-keyboard-pci,id=keyboard,bus=pcie.0,addr=0x2"]
    argv += ["-object", "rng-random,id=entropy,filename=/dev/urandom"]
    argv += ["-device", f"virtio-rng-pci,id=rng,rng=entropy,bus={board.bus},addr=0x3"]
    argv += ["-device", f"virtio-balloon-pci,id=balloon,bus={board.bus},addr=0x7"]  # reports the guest's memory use
    argv += _channel(home, board) if made.has_channel else []
    argv += [*_ports(0 if hardware.machine_type == "pc" else made.ports), *_controller(board, hardware)]
    hard = [disk for disk in boot.disks if not disk.is_cdrom]
    cds = [disk for disk in boot.disks if disk.is_cdrom]
    argv += [*_disks(hard, hardware), *_seed(home, board, hardware)]
    argv += _disks(cds, hardware, sets=sum(len(disk.layers) for disk in hard))
    if spec.get("cd_drive") and not cds:
        argv += ["-device", _options(devices.cdrom(hardware, spec.get("cd_bus", "")))]
    argv += _nics(spec, boot.nics, hardware)
    argv += ["-incoming", "defer"] if boot.saved else []
    return argv


def _engine(board: Board, accelerator: Accelerator, made: Made) -> list[str]:
    flash = ",pflash0=firmware,pflash1=variables" if made.uefi else ""
    machine = ["-machine", f"{board.machine},memory-backend=ram{flash}"]
    if accelerator.kind == "kvm":
        return [*machine, "-accel", "kvm", "-cpu", "host"]
    engine = f"tcg,thread=multi,tb-size={TRANSLATION_CACHE_MIB}"
    return [*machine, "-accel", engine, "-cpu", board.cpu_under_tcg]


def _uefi(uefi: Uefi, home: Home) -> list[str]:
    """The firmware, which all machines share, and the machine's own variables."""
    return [
        *("-blockdev", f"driver=file,filename={_value(uefi.code)},node-name=firmware-file,read-only=on"),
        *("-blockdev", "driver=raw,node-name=firmware,file=firmware-file,read-only=on"),
        *("-blockdev", f"driver=file,filename={_value(home.variables)},node-name=variables-file"),
        *("-blockdev", "driver=raw,node-name=variables,file=variables-file"),
    ]


def _memory(spec: dict[str, Any]) -> list[str]:
    vcpus, memory = int(spec["vcpus"]), int(spec["memory_mib"])
    return [
        *("-smp", f"cpus={vcpus},sockets=1,cores={vcpus},threads=1"),
        *("-m", f"{memory}M"),
        *("-object", f"memory-backend-ram,id=ram,size={memory}M"),
    ]


def _boot(spec: dict[str, Any], files: dict[str, Path], accelerator: Accelerator) -> list[str]:
    """A kernel of the image is loaded directly; otherwise the firmware looks for one on the disk."""
    argv: list[str] = []
    if accelerator.firmware:
        argv += ["-bios", _value(accelerator.firmware)]
    if "kernel" in files:
        argv += ["-kernel", str(files["kernel"])]
        if "initrd" in files:
            argv += ["-initrd", str(files["initrd"])]
        argv += ["-append", spec["image"].get("kernel_command_line") or ""]
    return argv


def _channel(home: Home, board: Board) -> list[str]:
    """To the guest agent. The first port is the driver's own, so two are the fewest: each takes a guest's memory."""
    name = devices.CHANNEL_TO_AGENT
    return [
        *("-chardev", f"socket,id={name},path={_value(home.agent_socket)},server=on,wait=off"),
        *("-device", f"virtio-serial-pci,id={devices.CHANNELS},bus={board.bus},addr=0x18,max_ports=2"),
        *("-device", f"virtserialport,id={name}-channel,bus={devices.CHANNELS}.0,chardev={name},name={AGENT}"),
    ]


def _ports(count: int) -> list[str]:
    argv: list[str] = []
    for number in range(count):
        slot, function = SLOTS_OF_PORTS[number // 8], number % 8
        multi = ",multifunction=on" if function == 0 else ""
        place = f"bus=pcie.0,addr={slot:#x}.{function:#x}{multi}"
        argv += ["-device", f"pcie-root-port,id=port{number},chassis={number + 1},{place}"]
    return argv


def _controller(board: Board, hardware: Hardware) -> list[str]:
    """Of the disks, where they are not PCI devices themselves. IDE is a part of the machine."""
    if hardware.disk_bus == "scsi":
        return _scsi(board)
    return ["-device", f"ich9-ahci,id=sata,bus={board.bus},{board.sata}"] if hardware.disk_bus == "sata" else []


def _scsi(board: Board) -> list[str]:
    return ["-device", f"virtio-scsi-pci,id=scsi,bus={board.bus},addr=0x5"]


def _disks(disks: Sequence[Disk], hardware: Hardware, *, sets: int = 0) -> list[str]:
    """Each disk in its place. Every layer is an open file in a set of file descriptors, or an open connection, with an
    explicit format. `sets`: how many there are already."""
    argv: list[str] = []
    number_of_set = sets
    for disk in disks:
        below = None
        for layer in disk.layers:
            number_of_set += 1
            read_only = not disk.writes(layer)
            if layer.remote:
                nodes = devices.remote(layer, str(layer.descriptor), read_only=read_only)
            else:
                argv += ["-add-fd", f"fd={layer.descriptor},set={number_of_set},opaque={layer.name}"]
                nodes = devices.layer(layer, number_of_set, below=below, read_only=read_only)
            for node in nodes:
                argv += ["-blockdev", json.dumps(node)]
            below = layer
        argv += ["-device", _options(devices.disk(disk, hardware))]
    return argv


def _seed(home: Home, board: Board, hardware: Hardware) -> list[str]:
    """On a CD-ROM that the guest has a driver for, as it has one for its disks."""
    argv = ["-blockdev", f"driver=file,filename={_value(home.seed)},node-name=seed-file,read-only=on"]
    argv += ["-blockdev", "driver=raw,node-name=seed,file=seed-file,read-only=on"]
    if hardware.disk_bus in ("sata", "ide"):
        return [*argv, "-device", f"ide-cd,id=cdrom,drive=seed,{board.seed}"]
    argv += [] if hardware.disk_bus == "scsi" else _scsi(board)
    return [*argv, "-device", "scsi-cd,id=cdrom,drive=seed,bus=scsi.0"]


def _nics(spec: dict[str, Any], nics: tuple[Nic, ...], hardware: Hardware) -> list[str]:
    """Each NIC in its place. Raises Refused if there are too many."""
    argv: list[str] = []
    for nic in nics:
        argv += ["-netdev", _options(devices.netdev(nic, spec["seed"]["hostname"]))]
        argv += ["-device", _options(devices.nic(nic, hardware))]
    return argv


def _options(said: Mapping[str, Any]) -> str:
    """A QMP object as one command line argument (JSON)."""
    texts = {name: ("off", "on")[value] if isinstance(value, bool) else str(value) for name, value in said.items()}
    return ",".join(f"{name}={_value(text)}" for name, text in texts.items())


def _value(text: Path | str) -> str:
    """Text as an option's value: commas are doubled."""
    return str(text).replace(",", ",,")
