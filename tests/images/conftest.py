"""Images are built once for all tests, into $PILEUS_TEST_IMAGES (kept between runs) or beside the package cache."""

import os
import subprocess
from pathlib import Path

import pytest

from images import build
from tests.images.machine import Machine


def built(name: str, architecture: str) -> Path:
    """The directory of an image, built unless it is there already."""
    cache = build.default_cache()
    base = Path(os.environ.get("PILEUS_TEST_IMAGES") or cache / "test-images")
    output = base / f"{name}-{architecture}"
    build.build(name, architecture, output, cache=cache, refresh=False, say=print)
    return output


@pytest.fixture(scope="session")
def tiny_linux() -> Path:
    return built("tiny-linux", "x86_64")


@pytest.fixture(scope="session")
def guest_root(tiny_linux: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's root file system, copied out of its disk: its programs run on this machine too."""
    home = tmp_path_factory.mktemp("guest")
    raw, root = home / "disk.raw", home / "root"
    root.mkdir()
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(tiny_linux / "disk.qcow2"), str(raw)], check=True)
    subprocess.run(["/usr/sbin/debugfs", "-R", f"rdump / {root}", str(raw)], check=True, capture_output=True)
    return root


@pytest.fixture
def machine(tiny_linux: Path, tmp_path: Path):
    """A machine that is not started yet; nothing of it stays."""
    made = Machine(tiny_linux, tmp_path / "m")
    yield made
    made.close()
