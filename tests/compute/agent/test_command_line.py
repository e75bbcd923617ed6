"""QEMU's command line, word for word. After a wanted change: PILEUS_WRITE_GOLDEN=1, and read the difference."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import Refused
from compute.agent import disks, nics
from compute.agent.disks import Disk, Layer
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Boot
from compute.agent.hypervisors.qemu import command_line
from compute.agent.hypervisors.qemu.command_line import Accelerator, Made
from compute.agent.hypervisors.qemu.firmware import Uefi
from storage import hardware
from tests.hosts import make_spec

GOLDEN = Path(__file__).parent / "golden"
MACHINE = "6f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01"
HOME = Home(Path("/var/lib/pileus/agent/machines") / MACHINE, Path("/run/pileus/6f1c1d6e4c0e4b439d532f6f0c1b9a01"))
IMAGES = Path("/var/lib/pileus/agent/images")
DIRECT = {"kernel": IMAGES / "k", "initrd": IMAGES / "i", "disk": IMAGES / "d"}


def image(architecture: str, *, disk_format: str = "qcow2", kernel_command_line: str = "console=ttyS0 root=/dev/vda"):
    return {
        "architecture": architecture,
        "files": [{"role": "disk", "format": disk_format}],
        "kernel_command_line": kernel_command_line,
    }


def boot(spec, files=None, home=HOME, **more):
    """What a start is given, with files and taps that are open."""
    files = files or {}
    numbers = iter(range(10, 100))
    ready = [opened(disk, numbers) for disk in more.pop("disks", disks.of(spec, home, None, lambda file: IMAGES / "d"))]
    return Boot(spec, home, files, **{"disks": tuple(ready), "nics": nics.of(spec), **more})


def arguments(started, accelerator, ports=16, uefi=None):
    made_of = hardware.resolve(started.spec["architecture"], started.spec["image"].get("hardware") or {})
    return command_line.arguments(started, accelerator, Made(made_of, uefi, ports))


def made_of(**wish):
    return make_spec(id=MACHINE, image={**image("x86_64"), "hardware": wish})


def opened(disk, numbers):
    return replace(disk, layers=tuple(replace(layer, descriptor=next(numbers)) for layer in disk.layers))


def tap(slot):
    return nics.Nic(f"52:54:00:00:00:0{slot}", slot=slot, port=f"p{slot}", mtu=1442, descriptor=20 + slot)


TCG = Accelerator("tcg", "/usr/bin/qemu-system-x86_64")
CHAIN = (
    Layer("base", IMAGES / "d", "raw"),
    Layer("l1", Path("/v/1"), "qcow2"),
    Layer("l2", Path("/v/2"), "qcow2"),
)
VOLUMES = (Disk(1, "9a", CHAIN), Disk(3, "9b", (Layer("l3", Path("/v/3"), "qcow2"),), read_only=True))


CASES = {
    "x86_64-tcg-kernel": (
        boot(make_spec(id=MACHINE, vcpus=2, memory_mib=512, image=image("x86_64")), DIRECT),
        TCG,
    ),
    "x86_64-kvm-disk": (
        boot(make_spec(id=MACHINE, image=image("x86_64", disk_format="raw")), {"disk": IMAGES / "d"}),
        Accelerator("kvm", "/usr/bin/qemu-system-x86_64"),
    ),
    "aarch64-tcg-disk": (
        boot(make_spec(id=MACHINE, architecture="aarch64", image=image("aarch64")), {"disk": IMAGES / "d"}),
        Accelerator("tcg", "/usr/bin/qemu-system-aarch64", Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")),
    ),
    "riscv64-tcg-kernel": (
        boot(make_spec(id=MACHINE, architecture="riscv64", image=image("riscv64")), DIRECT),
        Accelerator("tcg", "/usr/bin/qemu-system-riscv64"),
    ),
    "x86_64-tcg-no-files": (boot(make_spec(id=MACHINE)), TCG),
    "x86_64-tcg-no-nics-no-disks": (boot(make_spec(id=MACHINE), disks=(), nics=()), TCG),
    "x86_64-tcg-2-nics-3-disks": (
        boot(
            make_spec(id=MACHINE),
            disks=(*disks.of(make_spec(id=MACHINE), HOME, None, None), *VOLUMES),
            nics=(tap(0), tap(2)),
        ),
        TCG,
    ),
}

WITHOUT_READ_ONLY = (Disk(1, "9a", CHAIN),)
CASES |= {
    f"x86_64-{name}": (
        boot(made_of(**wish), disks=(*disks.of(make_spec(id=MACHINE), HOME, None, None), *more), nics=(tap(0), tap(1))),
        TCG,
    )
    for name, wish, more in (
        ("pc-virtio", {"machine_type": "pc"}, VOLUMES),
        ("pc-ide-rtl8139", {"disk_bus": "ide", "nic_bus": "rtl8139"}, WITHOUT_READ_ONLY),
        ("pc-sata-e1000", {"disk_bus": "sata", "nic_bus": "e1000"}, WITHOUT_READ_ONLY),
        ("q35-scsi-e1000", {"machine_type": "q35", "disk_bus": "scsi", "nic_bus": "e1000"}, VOLUMES),
        ("q35-sata-e1000e-uefi", {"firmware": "uefi", "disk_bus": "sata", "nic_bus": "e1000e"}, WITHOUT_READ_ONLY),
    )
}
ISO = (Disk(0, "", (Layer("cd", IMAGES / "iso", "raw"),), read_only=True, is_cdrom=True),)
CASES |= {
    f"{architecture}-{name}": (
        boot(
            make_spec(
                id=MACHINE, architecture=architecture, image={**image(architecture), "files": [], "hardware": wish}
            ),
            disks=(*disks.of(make_spec(id=MACHINE), HOME, None, None), *ISO),
        ),
        Accelerator("tcg", f"/usr/bin/qemu-system-{architecture}"),
    )
    for architecture, name, wish in (
        ("x86_64", "iso", {}),
        ("x86_64", "pc-iso", {"disk_bus": "ide"}),
        ("aarch64", "iso", {}),
    )
}
UEFI = Uefi(Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd"))


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_is_the_golden_one(name):
    started, accelerator = CASES[name]
    written = "\n".join(arguments(started, accelerator, uefi=UEFI if name.endswith("uefi") else None)) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("PILEUS_WRITE_GOLDEN"):
        golden.write_text(written)
    assert written == golden.read_text()


@pytest.mark.parametrize("name", ["x86_64-iso", "x86_64-pc-iso", "aarch64-iso"])
def test_an_empty_cd_drive_is_where_one_with_a_cd_is(name):
    full, accelerator = CASES[name]
    spec = {**full.spec, "cd_drive": True}
    empty = replace(full, spec=spec, disks=tuple(disk for disk in full.disks if not disk.is_cdrom))
    [drive] = [argument for argument in arguments(full, accelerator) if "id=cd-device" in argument]
    assert drive.replace("drive=cd,", "") in arguments(empty, accelerator)
    assert arguments(replace(full, spec=spec), accelerator) == arguments(full, accelerator)


def test_a_drive_on_virtio_scsi_is_where_one_with_a_cd_is():
    full, accelerator = CASES["x86_64-iso"]
    hard = tuple(disk for disk in full.disks if not disk.is_cdrom)
    with_cd = replace(full, disks=(*hard, replace(ISO[0], cd_bus="scsi")))
    empty = replace(full, disks=hard, spec={**full.spec, "cd_drive": True, "cd_bus": "scsi"})
    assert "driver=scsi-cd,id=cd-device,drive=cd,bootindex=2,bus=scsi.0,scsi-id=15" in arguments(with_cd, accelerator)
    assert "driver=scsi-cd,id=cd-device,bootindex=2,bus=scsi.0,scsi-id=15" in arguments(empty, accelerator)


def test_tenants_words_cannot_add_options():
    spec = make_spec(id=MACHINE, image=image("x86_64", kernel_command_line="a,b=c -device evil"))
    argv = arguments(boot(spec, DIRECT), TCG)
    assert "a,b=c -device evil" in argv
    assert "evil" not in " ".join(argument for argument in argv if argument != "a,b=c -device evil")


def test_a_comma_in_a_path_stays_a_comma():
    home = Home(Path("/srv/a,b"), Path("/run/c,d"))
    argv = arguments(boot(make_spec(id=MACHINE), home=home), TCG)
    assert any("filename=/srv/a,,b/seed.iso" in argument for argument in argv)
    assert "unix:/run/c,,d/vnc" in argv


def test_mac_addresses_are_stable_and_local():
    mac = nics.mac_address(MACHINE)
    assert mac == nics.mac_address(MACHINE.upper())
    assert mac.startswith("52:54:00:")


def test_what_was_suspended_waits_for_its_state_instead_of_booting():
    started, _ = CASES["x86_64-tcg-kernel"]
    booting = arguments(started, TCG)
    going_on = arguments(replace(started, saved=Path("/saved")), TCG)
    assert going_on == [*booting, "-incoming", "defer"]


def test_what_an_older_release_suspended_finds_its_devices_where_they_were():
    """Eight root ports, the disk behind the first, NICs behind the next ones."""
    started = replace(CASES["x86_64-tcg-2-nics-3-disks"][0], disks=CASES["x86_64-tcg-no-files"][0].disks)
    argv = arguments(started, TCG, ports=8)
    devices = [argument for argument in argv if argument.startswith(("pcie-root-port,", "driver=virtio-"))]
    assert [words.split("id=")[1].split(",")[0] for words in devices] == [
        *(f"port{number}" for number in range(8)),
        *("vda-device", "nic0-device", "nic2-device"),
    ]
    assert ["bus=port0" in devices[8], "bus=port1" in devices[9], "bus=port3" in devices[10]] == [True] * 3


def test_there_are_as_many_slots_as_root_ports():
    with pytest.raises(Refused, match="at most 8 NICs, and none in slot 8"):
        arguments(boot(make_spec(), nics=(tap(8),)), TCG)
    with pytest.raises(Refused, match="at most 8 disks, and none in slot 8"):
        arguments(boot(make_spec(), disks=(Disk(8, "9", CHAIN),)), TCG)
    full = boot(make_spec(), disks=[Disk(n, "9", CHAIN) for n in range(8)], nics=tuple(tap(n) for n in range(8)))
    argv = arguments(full, TCG)
    buses = [word for argument in argv if "virtio-" in argument for word in argument.split(",") if "bus=port" in word]
    assert sorted(buses) == sorted(f"bus=port{number}" for number in range(16))
