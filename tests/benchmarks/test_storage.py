"""Images: an import beside bare qemu-img in the same run, and the storage work of a launch from a cached image."""

import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from agent import jail
from agent.control_plane import ControlPlane
from agent.kinds import Tools
from agent.ledger import Ledger
from agent.paths import Paths
from agent.work import Work
from storage.agent import qcow2
from storage.agent.conversion import Tool, examine_result
from storage.agent.image_cache import ImageCache
from storage.agent.image_work import file_sum
from storage.agent.images import Images
from storage.agent.inspection.common import Disk
from tests.benchmarks.measuring import line

pytestmark = pytest.mark.benchmark

MIB_OF_DATA = 512
ROUNDS = 3
LAUNCHES = 20


@pytest.fixture
def images(tmp_path):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    tools = Tools(paths, Ledger(paths.ledger), ControlPlane("http://127.0.0.1:1"), jail.probe(paths))
    return Images(tools)


@pytest.fixture
def source(tmp_path):
    """A disk of 2 GiB with 512 MiB of data that does not compress."""
    raw = tmp_path / "raw"
    with raw.open("wb") as file:
        for place in range(MIB_OF_DATA):
            file.seek(place << 22)
            file.write(os.urandom(1 << 20))
        file.truncate(MIB_OF_DATA << 22)
    return raw


@pytest.mark.parametrize("format_", ["raw", "vmdk", "vdi"])
def test_an_import_takes_little_longer_than_bare_qemu_img(format_, images, source, tmp_path):
    made = source
    if format_ != "raw":
        made = tmp_path / "source"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format_, source, made], check=True)
    made.chmod(0o444)
    bare, conversion, whole = [], [], []
    folder = tmp_path / "out"
    for number in range(ROUNDS):
        began = time.perf_counter()
        target = tmp_path / f"bare-{number}"
        subprocess.run(["qemu-img", "convert", "-f", format_, "-O", "qcow2", made, target], check=True)
        bare.append(time.perf_counter() - began)
        target.unlink()
        with images.helpers.turn(Work()) as uid:
            folder.mkdir(exist_ok=True)
            if uid is not None:
                os.chown(folder, uid, uid)
            tool = Tool(images.helpers, uid, folder, Work())
            began = time.perf_counter()
            found = tool.inspect(made, format_, 1 << 40)
            inspected = time.perf_counter()
            tool.convert(made, found.disks[0], "qcow2", folder / "disk", lambda _: None)
            conversion.append(time.perf_counter() - inspected)
            examine_result(folder / "disk", "qcow2", 1 << 40)
            file_sum(folder / "disk", Work())
            whole.append(time.perf_counter() - began)
        (folder / "disk").unlink()
    of_bare, of_conversion, of_all = (MIB_OF_DATA / statistics.median(one) for one in (bare, conversion, whole))
    line(
        f"import of {MIB_OF_DATA} MiB of {format_}",
        target="conversion ≥ 0.8 of qemu-img alone",
        qemu_img_MiB_s=of_bare,
        conversion_MiB_s=of_conversion,
        with_inspection_and_sum_MiB_s=of_all,
        ratio=of_conversion / of_bare,
        ratio_of_all=of_all / of_bare,
    )


def test_a_launch_from_a_cached_image_costs_nearly_no_storage_work(images, source, tmp_path):
    """The lookup in the cache and the thin overlay: what a launch does with disks."""
    made = tmp_path / "source"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, made], check=True)
    sha256 = file_sum(made, Work())
    cache: ImageCache = images.cache
    made.rename(cache.directory / sha256)
    file = {"sha256": sha256, "size": (cache.directory / sha256).stat().st_size}
    seconds = []
    for number in range(LAUNCHES):
        began = time.perf_counter()
        base = cache.fetch(file, Work())
        qcow2.create(tmp_path / f"overlay-{number}", 10 << 30, base, "qcow2")
        seconds.append(time.perf_counter() - began)
    line("thin launch from a cached image", target="≤ 100 ms", median_ms=1000 * statistics.median(seconds))


def test_an_inspection_does_not_grow_with_the_disk(images, tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    for path, size in ((small, 1 << 30), (large, 1 << 40)):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, str(size)], check=True)
        path.chmod(0o444)
    with images.helpers.turn(Work()) as uid:
        tool = Tool(images.helpers, uid, tmp_path, Work())
        seconds = {}
        for path in (small, large):
            began = time.perf_counter()
            assert isinstance(tool.inspect(path, None, 1 << 41).disks[0], Disk)
            seconds[path.name] = time.perf_counter() - began
    line("inspection, confined", target="1 TiB as 1 GiB", of_1_GiB_s=seconds["small"], of_1_TiB_s=seconds["large"])
