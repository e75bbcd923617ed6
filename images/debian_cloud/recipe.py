"""The recipe: mmdebstrap installs packages into a tree, as any user (fakechroot); that becomes a disk with GRUB.

The packages come from the private apt of `debian.py`, so the version of an image says all that went in. Their own
scripts run, on this machine's processor: an image is built for the architecture that this machine has.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from .. import debian, tools
from ..architectures import Architecture
from ..debian import Archive, Package
from ..recipe import Recipe, Say
from ..tools import BuildError
from . import disk, repository

GUEST = Path(__file__).parent / "guest"
SYSTEM = (
    "init", "systemd-sysv", "udev", "dbus", "libpam-systemd", "systemd-timesyncd", "systemd-resolved",
    "initramfs-tools", "zstd", "e2fsprogs", "fdisk", "cloud-guest-utils", "cloud-init", "netplan.io",
    "isc-dhcp-client", "iproute2", "iputils-ping", "openssh-server", "sudo", "qemu-guest-agent", "ca-certificates",
    "netbase", "procps", "less", "nano", "curl", "bash-completion",
)  # fmt: skip
BOOT_LOADERS = ("grub-pc-bin", "grub-efi-amd64-bin")  # unpacked for the disk, and not installed in the guest
COMPONENTS = "main"
# What the scripts of packages made that each machine must have for itself, and what a chroot got wrong. The machine id
# is the UUID that the firmware tells, which is the instance's id, and is never written down: it would go into images.
TIDY = """\
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/var/lib/dbus/machine-id
rm -f "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
ln -s ../run/systemd/resolve/stub-resolv.conf "$1"/etc/resolv.conf
: > "$1"/etc/machine-id
ln -s /dev/null "$1"/etc/systemd/system/systemd-machine-id-commit.service
"""


class DebianCloud(Recipe):
    """What `python -m images build debian` makes: for BIOS and UEFI, a disk with a partition table."""

    name = "debian"
    description = "Debian with systemd, cloud-init and the QEMU guest agent; built here from Debian's packages"
    os = "debian"
    min_disk_gib = 2
    min_memory_mib = 384
    default_user = "debian"
    cloud_init = True
    tools = tools.DEBIAN_CLOUD_TOOLS

    def packages(self, archive: Archive, architecture: Architecture, *, refresh: bool) -> list[Package]:
        if architecture.name != "x86_64":
            raise BuildError(f"debian is built for x86_64 so far, and not for {architecture.name}")
        if platform.machine() != architecture.name:
            raise BuildError(f"debian for {architecture.name} is built on a machine of that architecture")
        names = (*SYSTEM, architecture.kernel_package, "apt", "?essential")
        installed = archive.resolve(names, refresh=refresh)
        loaders = [package for package in archive.resolve(BOOT_LOADERS) if package.name in BOOT_LOADERS]
        return installed + [package for package in loaders if package not in installed]

    def build(
        self, architecture: Architecture, files: dict[Package, Path], directory: Path, say: Say
    ) -> dict[str, object]:
        # Beside the image, as it takes gigabytes: /tmp may be in memory.
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix="debian-") as working:
            work = Path(working)
            tree = {package: path for package, path in files.items() if package.name not in BOOT_LOADERS}
            repository.make(tree, work / "repository")
            names = (*SYSTEM, architecture.kernel_package)
            self._install(names, work / "repository", work / "root.tar", say)
            shutil.rmtree(work / "repository")
            say("writing the disk")
            loaders = [path for package, path in files.items() if package.name in BOOT_LOADERS]
            disk.make(work / "root.tar", loaders, work / "disk.raw", work)
            say("compressing the disk")
            disk.compress(work / "disk.raw", directory / "disk.qcow2")
        return {
            "kernel_command_line": "",
            "files": [{"role": "disk", "file": "disk.qcow2", "format": "qcow2"}],
        }

    def _install(self, names: tuple[str, ...], source: Path, tar: Path, say: Say) -> None:
        """Install the packages into a tree, which becomes a tar with the owners that they have in the guest."""
        release = debian.running_release()
        sources = tar.with_name("sources.list")
        lines = [f"deb {each.uri} {each.suite} {COMPONENTS}\n" for each in debian.default_sources(release)]
        sources.write_text("".join([*lines, f"deb http://deb.debian.org/debian {release}-updates {COMPONENTS}\n"]))
        command = [
            tools.find("mmdebstrap"), "--mode=fakechroot", "--variant=apt", "--format=tar",
            "--dpkgopt=force-unsafe-io",  # no sync after each file: a build that is cut off leaves nothing
            "--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount",
            f"--include={','.join(names)}", f"--customize-hook=sync-in {GUEST} /", f"--customize-hook={TIDY}",
            f"--customize-hook=upload {sources} /etc/apt/sources.list",
            release, str(tar), f"deb [trusted=yes] file://{source} ./",
        ]  # fmt: skip
        environment = dict(os.environ, LC_ALL="C.UTF-8", PATH=tools.SEARCH_PATH, TMPDIR=str(tar.parent))
        said: list[str] = []
        with subprocess.Popen(
            command, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as installing:  # fmt: skip
            for line in installing.stdout or ():
                said.append(line.rstrip())
                if line.startswith(("I: ", "Setting up ")):
                    say(line.removeprefix("I: ").rstrip())
        if installing.returncode:
            raise BuildError("mmdebstrap failed: " + " / ".join(said[-6:]))
