"""QEMU's command line, word for word. After a wanted change: PILEUS_WRITE_GOLDEN=1, and read the difference."""

import os
from pathlib import Path

import pytest

from agent.errors import Refused
from compute.agent import nics
from compute.agent.homes import Home
from compute.agent.hypervisors.qemu import command_line
from compute.agent.hypervisors.qemu.command_line import Accelerator
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


CASES = {
    "x86_64-tcg-kernel": (
        make_spec(id=MACHINE, vcpus=2, memory_mib=512, image=image("x86_64")),
        DIRECT,
        Accelerator("tcg", "/usr/bin/qemu-system-x86_64"),
    ),
    "x86_64-kvm-disk": (
        make_spec(id=MACHINE, image=image("x86_64", disk_format="raw")),
        {"disk": IMAGES / "d"},
        Accelerator("kvm", "/usr/bin/qemu-system-x86_64"),
    ),
    "aarch64-tcg-disk": (
        make_spec(id=MACHINE, architecture="aarch64", image=image("aarch64")),
        {"disk": IMAGES / "d"},
        Accelerator("tcg", "/usr/bin/qemu-system-aarch64", Path("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")),
    ),
    "riscv64-tcg-kernel": (
        make_spec(id=MACHINE, architecture="riscv64", image=image("riscv64")),
        DIRECT,
        Accelerator("tcg", "/usr/bin/qemu-system-riscv64"),
    ),
    "x86_64-tcg-no-files": (make_spec(id=MACHINE), {}, Accelerator("tcg", "/usr/bin/qemu-system-x86_64")),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_line_is_the_golden_one(name):
    spec, files, accelerator = CASES[name]
    written = "\n".join(command_line.arguments(spec, HOME, files, accelerator, nics=nics.of(spec))) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("PILEUS_WRITE_GOLDEN"):
        golden.write_text(written)
    assert written == golden.read_text()


def test_tenants_words_cannot_add_options():
    spec = make_spec(id=MACHINE, image=image("x86_64", kernel_command_line="a,b=c -device evil"))
    argv = command_line.arguments(spec, HOME, DIRECT, CASES["x86_64-tcg-kernel"][2])
    assert "a,b=c -device evil" in argv
    assert "evil" not in " ".join(argument for argument in argv if argument != "a,b=c -device evil")


def test_a_comma_in_a_path_stays_a_comma():
    home = Home(Path("/srv/a,b"), Path("/run/c,d"))
    argv = command_line.arguments(make_spec(id=MACHINE), home, {}, CASES["x86_64-tcg-kernel"][2])
    assert any("filename=/srv/a,,b/disk.qcow2" in argument for argument in argv)
    assert "unix:/run/c,,d/vnc" in argv


def test_mac_addresses_are_stable_and_local():
    mac = nics.mac_address(MACHINE)
    assert mac == nics.mac_address(MACHINE.upper())
    assert mac.startswith("52:54:00:")


def test_what_was_suspended_waits_for_its_state_instead_of_booting():
    spec, files, accelerator = CASES["x86_64-tcg-kernel"]
    booting = command_line.arguments(spec, HOME, files, accelerator)
    assert command_line.arguments(spec, HOME, files, accelerator, going_on=True) == [*booting, "-incoming", "defer"]


def test_nics_with_ports_are_taps_each_behind_a_root_port_of_its_own():
    spec, files, accelerator = CASES["x86_64-tcg-kernel"]
    plugged = tuple(nics.Nic(f"52:54:00:00:00:0{n}", port=f"p{n}", mtu=1442, descriptor=10 + n) for n in range(7))
    argv = command_line.arguments(spec, HOME, files, accelerator, nics=plugged)
    assert [a for a in argv if a.startswith("tap,")] == [f"tap,id=nic{n},fd={10 + n},vhost=off" for n in range(7)]
    devices = [argument for argument in argv if argument.startswith("virtio-net-pci,")]
    assert devices[2] == (
        "virtio-net-pci,id=nic2-device,netdev=nic2,mac=52:54:00:00:00:02,bus=port3,host_mtu=1442,romfile="
    )
    with pytest.raises(Refused, match="at most 7 NICs, not 8"):
        command_line.arguments(spec, HOME, files, accelerator, nics=(*plugged, plugged[0]))
    assert "-netdev" not in command_line.arguments(spec, HOME, files, accelerator)
