"""The recipe: Debian's iPXE as the kernel, and the script that it runs first as its initrd."""

from pathlib import Path

from .. import debian
from ..architectures import Architecture
from ..debian import Archive, Package
from ..recipe import Recipe, Say
from ..tools import BuildError

SCRIPT = Path(__file__).parent / "boot.ipxe"
PROGRAM = "boot/ipxe.lkrn"


class Ipxe(Recipe):
    """What `python -m images build ipxe` makes. Its disk is empty: it is for what the script installs."""

    name = "ipxe"
    description = "iPXE: boots from the network by a script in the user data (#!ipxe), otherwise from its disk"
    os = "ipxe"
    min_disk_gib = 1
    min_memory_mib = 64
    default_user = "root"
    main_package = "ipxe"

    def packages(self, archive: Archive, architecture: Architecture, *, refresh: bool) -> list[Package]:
        if architecture.name != "x86_64":
            raise BuildError(f"ipxe is built for x86_64, and not for {architecture.name}")
        return [package for package in archive.resolve(["ipxe"], refresh=refresh) if package.name == "ipxe"]

    def build(
        self, architecture: Architecture, files: dict[Package, Path], directory: Path, say: Say
    ) -> dict[str, object]:
        (package,) = files.values()
        (directory / "kernel").write_bytes(dict(debian.contents(package, PROGRAM.__eq__))[PROGRAM].content)
        (directory / "initrd").write_bytes(SCRIPT.read_bytes())
        return {
            "kernel_command_line": "",
            "files": [
                {"role": "kernel", "file": "kernel", "format": None},
                {"role": "initrd", "file": "initrd", "format": None},
            ],
        }
