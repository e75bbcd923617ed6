"""A disk that BIOS and UEFI boot, out of a tar of its root: partition table, GRUB twice, ext4. Any user can make it.

GRUB is in its boot partitions as a whole. It reads /boot/grub/grub.cfg, which starts the kernel that the links
/vmlinuz and /initrd.img name: Debian's kernel packages keep those up to date, so a guest needs no GRUB of its own.
"""

import os
import struct
import subprocess
from pathlib import Path

from .. import debian, tools
from ..tools import BuildError

SECTOR = 512
MIB = 1 << 20
DISK_MIB = 2048
BIOS_FIRST, BIOS_SECTORS = 34, 2014
ESP_FIRST, ESP_SECTORS = 2048, 16384  # 8 MiB
ROOT_FIRST = ESP_FIRST + ESP_SECTORS
TAIL_SECTORS = 2048  # of the spare partition table
ROOT_LABEL = "debian-root"
ROOT_SECTORS = DISK_MIB * MIB // SECTOR - ROOT_FIRST - TAIL_SECTORS  # it is the last one, so that it can grow
TABLE = f"""\
label: gpt
first-lba: {BIOS_FIRST}
14 : start={BIOS_FIRST}, size={BIOS_SECTORS}, type=21686148-6449-6E6F-744E-656564454649
15 : start={ESP_FIRST}, size={ESP_SECTORS}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
1 : start={ROOT_FIRST}, size={ROOT_SECTORS}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
"""
EARLY = f"search.fs_label {ROOT_LABEL} root\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n"
MODULES = (
    "part_gpt", "ext2", "search", "search_label", "search_fs_uuid", "configfile", "normal", "linux", "boot", "echo",
    "serial", "terminal", "test", "all_video", "gzio",
)  # fmt: skip
# boot.img: where its field for the first sector of core.img is; core.img: its list of what follows its first sector.
BOOT_FIELD, CORE_FIELD, BOOT_CODE_BYTES = 0x5C, 500, 440


def make(root: Path, loaders: list[Path], output: Path, work: Path) -> None:
    """Write a raw disk of DISK_MIB. `loaders`: packages with GRUB's parts. Raises BuildError, OSError."""
    with output.open("wb") as file:
        file.truncate(DISK_MIB * MIB)
    _run("sfdisk", "--quiet", str(output), told=TABLE)
    _write_root(root, output, work)
    for loader in loaders:
        for path, node in debian.contents(loader, lambda path: path.startswith("usr/lib/grub/") and "." in path):
            if node.is_file:
                (work / path).parent.mkdir(parents=True, exist_ok=True)
                (work / path).write_bytes(node.content)
    (work / "early.cfg").write_text(EARLY)
    _write_bios(output, work)
    _write_uefi(output, work)


def compress(raw: Path, output: Path) -> None:
    """The disk as a compressed qcow2, without its zeros."""
    _run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(output))


def _write_root(tar: Path, output: Path, work: Path) -> None:
    """A file system with the owners that the tar says: fakeroot remembers them between the two programs."""
    tree = work / "root"
    tree.mkdir()
    unpack = f"{tools.find('tar')} -C {tree} -xpf {tar} --exclude=./dev/*"
    make_it = (
        f"{tools.find('mke2fs')} -q -F -t ext4 -b 4096 -L {ROOT_LABEL} -m 1 -d {tree} "
        f"-E offset={ROOT_FIRST * SECTOR},root_owner=0:0,nodiscard {output} {ROOT_SECTORS // 8}"
    )
    _run("fakeroot", "--", "sh", "-ec", f"{unpack}\nrm {tar}\n{make_it}\nrm -rf {tree}")


def _write_bios(output: Path, work: Path) -> None:
    core = work / "core.img"
    _make_grub("i386-pc", core, work, ("biosdisk",))
    boot, rest = bytearray((work / "usr/lib/grub/i386-pc/boot.img").read_bytes()), bytearray(core.read_bytes())
    if len(rest) > BIOS_SECTORS * SECTOR:
        raise BuildError("GRUB does not fit into its partition")
    boot[BOOT_FIELD : BOOT_FIELD + 8] = struct.pack("<Q", BIOS_FIRST)
    rest[CORE_FIELD : CORE_FIELD + 8] = struct.pack("<Q", BIOS_FIRST + 1)
    with output.open("r+b") as disk:
        disk.write(boot[:BOOT_CODE_BYTES])
        disk.seek(BIOS_FIRST * SECTOR)
        disk.write(rest)


def _write_uefi(output: Path, work: Path) -> None:
    efi, esp = work / "bootx64.efi", work / "esp"
    _make_grub("x86_64-efi", efi, work, ("fat", "efi_gop", "efi_uga"))
    with esp.open("wb") as file:
        file.truncate(ESP_SECTORS * SECTOR)
    _run("mkfs.vfat", "-n", "ESP", str(esp))
    _run("mmd", "-i", str(esp), "::/EFI", "::/EFI/BOOT")
    _run("mcopy", "-i", str(esp), str(efi), "::/EFI/BOOT/BOOTX64.EFI")
    with output.open("r+b") as disk:
        disk.seek(ESP_FIRST * SECTOR)
        disk.write(esp.read_bytes())


def _make_grub(target: str, output: Path, work: Path, modules: tuple[str, ...]) -> None:
    _run(
        "grub-mkimage", "-O", target, "-d", str(work / "usr/lib/grub" / target), "-o", str(output),
        "-p", "/boot/grub", "-c", str(work / "early.cfg"), *modules, *MODULES,
    )  # fmt: skip


def _run(tool: str, *arguments: str, told: str = "") -> None:
    environment = dict(os.environ, LC_ALL="C", PATH=tools.SEARCH_PATH)
    done = subprocess.run(
        [tools.find(tool), *arguments], input=told, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"{tool} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
