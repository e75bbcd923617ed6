"""A guest that needs no drivers: GRUB, on a disk that BIOS and UEFI boot.

It says which PCI devices there are, and then what started it. "Installed", it is where only an entry among the settings
of UEFI finds it, as Debian's installer leaves it: the firmware's own shell makes that entry at its first start.
"""

import io
import subprocess
import tarfile
from pathlib import Path

from images import debian, tools
from images.debian_cloud import disk

LOADERS = ("grub-pc-bin", "grub-efi-amd64-bin")
TARGETS = ("i386-pc", "x86_64-efi")
# Modules that it loads from its disk, with its firmware's driver.
WANTED = tuple(
    f"usr/lib/grub/{target}/{name}" for target in TARGETS for name in ("lspci.mod", "moddep.lst", "extcmd.mod")
)
GRUB = """\
serial --unit=0
terminal_output serial
insmod lspci
lspci
echo "STARTED BY $grub_platform"
while true; do sleep 1000; done
"""


INSTALL = """\
bcfg boot add 0 FS0:\\EFI\\OWN\\BOOTX64.EFI own
rm FS0:\\startup.nsh
reset -c
"""


def make(output: Path, cache: Path, *, installed: bool = False) -> Path:
    """The disk, as qcow2."""
    sources = debian.debian_sources(debian.system_sources(), debian.running_release())
    archive = debian.Archive(cache, "amd64", sources, print)
    packages = [package for package in archive.resolve(LOADERS) if package.name in LOADERS]
    loaders = list(archive.fetch(packages).values())
    root, made = output / "root.tar", output / "disk.qcow2"
    with tarfile.open(root, "w") as tar:
        _add(tar, "boot/grub/grub.cfg", GRUB.encode())
        for loader in loaders:
            for path, node in debian.contents(loader, lambda path: path in WANTED):
                _add(tar, path.replace("usr/lib/grub", "boot/grub"), node.content)
    disk.make(root, loaders, output / "disk.raw", output)
    if installed:
        _hide(output / "disk.raw", output / "startup.nsh")
    disk.compress(output / "disk.raw", made)
    (output / "disk.raw").unlink()
    return made


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _hide(raw: Path, script: Path) -> None:
    script.write_text(INSTALL)
    esp = f"{raw}@@{disk.ESP_FIRST * disk.SECTOR}"
    for command in (("mmove", "-i", esp, "::/EFI/BOOT", "::/EFI/OWN"), ("mcopy", "-i", esp, str(script), "::/")):
        subprocess.run([tools.find(command[0]), *command[1:]], check=True)
