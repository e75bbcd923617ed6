"""Guests of the embedded emulator, and a node that has it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from images import build, debian
from images.tools import BuildError
from tests.compute.agent.unicorn.guest import Guest
from tests.images.conftest import built

MakeGuest = Callable[..., Guest]


@pytest.fixture(scope="session")
def riscv_linux() -> Path:
    """The riscv64 guest. Debian's mirrors have not always all of that port: without it there is U-Boot still."""
    try:
        return built("tiny-linux", "riscv64")
    except BuildError as error:
        pytest.skip(f"the riscv64 guest cannot be built now: {error}")


@pytest.fixture(scope="session")
def u_boot() -> bytes:
    """A second guest: U-Boot as a riscv64 supervisor, out of a package of Debian's that is the same everywhere."""
    cache = build.default_cache()
    sources = debian.debian_sources(debian.system_sources(), debian.running_release())
    cache.mkdir(parents=True, exist_ok=True)
    with build.alone(cache, print):
        archive = debian.Archive(cache, "amd64", sources, print)
        (package,) = (one for one in archive.resolve(["u-boot-qemu"]) if one.name == "u-boot-qemu")
        path = archive.fetch([package])[package]
    (node,) = (node for _, node in debian.contents(path, lambda name: name.endswith("riscv64_smode/u-boot.bin")))
    return node.content


@pytest.fixture
def make_guest(open_home: Path) -> Iterator[MakeGuest]:
    """Makes guests that run a kernel given as bytes; nothing of them stays."""
    made: list[Guest] = []

    def make(kernel: bytes, **description: Any) -> Guest:
        home = open_home / f"g{len(made)}"
        home.mkdir()
        (home / "kernel").write_bytes(kernel)
        made.append(Guest(home, kernel=str(home / "kernel"), **description))
        return made[-1]

    yield make
    for guest in made:
        guest.close()


@pytest.fixture
def make_linux(open_home: Path, riscv_linux: Path) -> Iterator[MakeGuest]:
    """Makes guests from the real image; nothing of them stays."""
    made: list[Guest] = []

    def make(**description: Any) -> Guest:
        made.append(Guest.of_image(riscv_linux, open_home / f"g{len(made)}", **description))
        return made[-1]

    yield make
    for guest in made:
        guest.close()
