"""What the operating system has to bring: one list of tools, the Debian packages they come in, and what for.

Run before there is a virtual environment (`system_packages.py install up`), so it uses the standard library only.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from images.tools import DEBIAN_CLOUD_TOOLS, REQUIRED_TOOLS, UNPACKING_TOOLS  # noqa: E402

# `up` starts an installation while pip is still working, and waits for it here.
LOCK = Path("/run/lock/pileus-apt.lock")
QEMU = "machines under QEMU"
UEFI = "machines with UEFI"
NETWORKS = "virtual networks"
GUEST_IMAGES = "guest images"
X86_64_IMAGES = "x86_64 guest images"
DEBIAN_IMAGES = "Debian guest images"
CEPH = {**{program: program for program in ("ceph-mon", "ceph-mgr", "ceph-osd")}, "rbd": "ceph-common"}
CEPH |= {"qemu/block-rbd.so": "qemu-block-extra"}
DISK_TOOLS = ("fakeroot", "sfdisk", "grub-mkimage", "mkfs.vfat", "mmd", "mcopy")
APT_GET = ("apt-get", "-q", "-y", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300")


@dataclass(frozen=True)
class Tool:
    """A program, library or file of the system, its Debian package, and what does not work without it."""

    program: str
    package: str
    needed_for: str
    purposes: frozenset[str]


def _tool(program: str, package: str, needed_for: str, *purposes: str) -> Tool:
    return Tool(program, package, needed_for, frozenset(purposes))


TOOLS = (
    _tool("qemu-system-x86_64", "qemu-system-x86", QEMU, "up", "test"),
    _tool("qemu-img", "qemu-utils", QEMU, "up", "test"),
    _tool("/usr/share/qemu/firmware/60-edk2-x86_64.json", "ovmf", UEFI, "up", "test"),
    *(_tool(program, package, GUEST_IMAGES, "up", "test") for program, package in REQUIRED_TOOLS.items()),
    *(_tool(program, package, X86_64_IMAGES, "up", "test") for program, package in UNPACKING_TOOLS.items()),
    *(_tool(program, package, DEBIAN_IMAGES, "debian") for program, package in DEBIAN_CLOUD_TOOLS.items()),
    _tool("libnftables.so.1", "libnftables1", NETWORKS, "up", "test"),
    _tool("pasta", "passt", "a way out for guests of an ordinary user", "test", *([] if os.geteuid() == 0 else ["up"])),
    _tool("qemu-system-riscv64", "qemu-system-misc", "riscv64 machines", "test", "riscv64"),
    _tool("fio", "fio", "a test of disks", "fio"),
    _tool("mke2fs", "e2fsprogs", "a test of disks", "fio"),
    _tool("qemu-system-aarch64", "qemu-system-arm", "arm64 machines", "aarch64"),
    _tool(
        "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "qemu-efi-aarch64", "arm64 machines without a kernel file", "aarch64"
    ),
    _tool("chromium", "chromium", "browser tests", "test"),
    _tool("libatomic.so.1", "libatomic1", "browser tests", "test"),  # Playwright's node links to it
    _tool("ssh-keygen", "openssh-client", "tests of key pairs", "test"),
    _tool("curl", "curl", "tests of the first steps", "test"),
    _tool("ip", "iproute2", "tests of networks", "test"),
    _tool("dhclient", "isc-dhcp-client", "tests of DHCP", "test"),
    _tool("dhcpcd", "dhcpcd-base", "tests of DHCP", "test"),
    _tool("udhcpc", "udhcpc", "tests of DHCP", "test"),
    _tool("rdisc6", "ndisc6", "tests of IPv6", "test"),
    _tool("nmap", "nmap", "tests of security groups", "test"),
    *(_tool(program, DEBIAN_CLOUD_TOOLS[program], "tests of firmware", "test") for program in DISK_TOOLS),
    *(_tool(program, package, "tests of volumes in Ceph", "test") for program, package in CEPH.items()),
    _tool("arp-scan", "arp-scan", "tests of networks", "test"),
)


def missing(purpose: str) -> list[Tool]:
    """The tools for a purpose (`up`, `test`, `debian` or an architecture) that this machine has not got."""
    return [tool for tool in TOOLS if purpose in tool.purposes and not _is_there(tool.program)]


def _is_there(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    if ".so" in program:
        return any(Path("/usr/lib").glob(f"*/{program}"))
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin") is not None


def packages_for(purpose: str) -> list[str]:
    if purpose == "venv":
        return [f"python3.{sys.version_info.minor}-venv" if Path(sys.base_prefix) == Path("/usr") else "python3-venv"]
    return sorted({tool.package for tool in missing(purpose)})


def install(purpose: str, output: IO[bytes] | int | None = None) -> list[Tool]:
    """Installs what is missing when root on a Debian; gives back what is still missing afterwards."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return missing(purpose)
    LOCK.parent.mkdir(exist_ok=True)  # an empty /run, as containers have
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if packages := packages_for(purpose):
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}

            def apt_get(*arguments: str) -> int:
                command = [*APT_GET, *arguments]
                done = subprocess.run(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
                )
                return done.returncode

            # A machine with fresh package lists needs no update; one with stale or no lists fails and gets it.
            if apt_get("install", "--no-install-recommends", *packages) != 0:
                apt_get("update")
                apt_get("install", "--no-install-recommends", *packages)
    return missing(purpose)


def in_words(tools: list[Tool]) -> str:
    """One line: what is missing, what will not work, and what to type."""
    without = ", ".join(sorted({tool.needed_for for tool in tools}))
    packages = " ".join(sorted({tool.package for tool in tools}))
    programs = ", ".join(sorted({tool.program for tool in tools}))
    return f"missing {programs}: no {without}; to have it: sudo apt install {packages}"


if __name__ == "__main__":
    install(sys.argv[2])
