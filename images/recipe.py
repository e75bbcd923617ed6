"""What every recipe is: which packages, and what it makes of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from .architectures import Architecture
from .debian import Archive, Package

Say = Callable[[str], None]


class Recipe(ABC):
    """One kind of guest image. What does not differ between architectures is an attribute, and goes into image.json."""

    name: str
    description: str
    os: str
    min_disk_gib: int
    min_memory_mib: int
    default_user: str
    main_package: str = "linux-image-"  # the first whose name begins so: its version names the image's
    cloud_init: bool = False  # whether the guest has a full one
    tools: ClassVar[Mapping[str, str]] = {}  # beside tools.REQUIRED_TOOLS: program → its Debian package

    @abstractmethod
    def packages(self, archive: Archive, architecture: Architecture, *, refresh: bool) -> list[Package]:
        """All packages whose files may be needed, among them the main one. Raises BuildError."""

    @abstractmethod
    def build(
        self, architecture: Architecture, files: dict[Package, Path], directory: Path, say: Say
    ) -> dict[str, object]:
        """Write the image's files into the directory; this recipe's part of image.json: `kernel_command_line` and
        `files`, each with role, file and format. Raises BuildError, OSError."""
