"""What a new one-machine cloud begins with."""

from typing import NamedTuple

PROJECT = "demo"
TOKEN_NAME = "pileus-up"  # noqa: S105

# The guest, for the first of these architectures that this machine can run.
IMAGE = "tiny-linux"
ARCHITECTURES = ("x86_64", "riscv64")


class Size(NamedTuple):
    vcpus: int
    memory_mib: int
    disk_gib: int
    price_per_hour: str


FLAVORS = {
    "tiny": Size(1, 256, 1, "0.0025"),
    "small": Size(1, 512, 5, "0.0050"),
    "medium": Size(2, 1024, 10, "0.0100"),
    "large": Size(2, 2048, 20, "0.0200"),
    "xlarge": Size(4, 4096, 40, "0.0400"),
}
