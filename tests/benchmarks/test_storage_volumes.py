"""Volumes and backups, from the service's call to its end with the agent's own files, beside bare cp and qemu-img."""

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.agent.images import Images
from storage.models import BackupBlock
from storage.services import backups, volumes
from tests import factories
from tests.benchmarks.measuring import line
from tests.storage.clouds import do, give_volumes, path, placed, settle

pytestmark = [pytest.mark.benchmark, pytest.mark.django_db(transaction=True)]
MIB = 1 << 20
MIB_OF_DATA = 512
ROUNDS = 5
WRITES, WRITE_BYTES = 4000, 64 << 10


@pytest.fixture
def cloud(cloud, settings, tmp_path):
    """Its node has volumes, and makes backups of them."""
    settings.BACKUP_STORE, settings.IMAGE_STORE = tmp_path / "backups", tmp_path / "images"
    cloud.project.quota.limits = {}
    cloud.project.quota.save()
    cloud.node.fixed_capacity = {**cloud.node.fixed_capacity, "disk_gib": 10_000}
    cloud.node.tools.add(Images(cloud.node.tools))
    give_volumes(cloud.node)
    return cloud


@pytest.fixture
def data(tmp_path):
    """Bytes that do not compress."""
    made = tmp_path / "data"
    with made.open("wb") as file:
        for _ in range(MIB_OF_DATA):
            file.write(os.urandom(MIB))
    return made


def took(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def median(act: Callable[[], object]) -> float:
    return statistics.median(took(act) for _ in range(ROUNDS))


def put(cloud, volume, data: Path, mib: int, at: int = 0) -> None:
    """What a guest would write: the first MiB of the data."""
    command = f"write -s {data} {at}M {mib}M"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path(cloud, volume)], check=True, capture_output=True)


@pytest.mark.parametrize("gib", [1, 1000])
def test_a_snapshot_and_a_clone_take_the_same_time_whatever_the_size(gib, cloud, data, tmp_path):
    volume = placed(cloud, size_gib=gib)
    put(cloud, volume, data, MIB_OF_DATA)
    layer = path(cloud, volume)
    copy = took(lambda: subprocess.run(["cp", layer, tmp_path / "copy"], check=True))

    def create_bare() -> None:
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", layer, tmp_path / "bare"]
        subprocess.run(command, check=True)

    def take(service, **facts) -> None:
        do(service, volume=volume, name=factories.name("made"), **facts)
        settle(cloud)

    bare = median(create_bare)
    snapshot = median(lambda: take(volumes.snapshot))
    clone = median(lambda: take(volumes.clone))
    line(
        f"volume of {gib} GiB with {MIB_OF_DATA} MiB of data",
        target="snapshot ≤ 500 ms, clone ≤ 300 ms",
        snapshot_ms=1000 * snapshot,
        clone_ms=1000 * clone,
        bare_qemu_img_create_ms=1000 * bare,
        cp_of_the_data_ms=1000 * copy,
        snapshot_to_cp=snapshot / copy,
    )


def test_a_backup_costs_what_has_changed(cloud, data, tmp_path):
    volume = placed(cloud)
    put(cloud, volume, data, MIB_OF_DATA)

    def back_up(changed: int) -> None:
        before = set(BackupBlock.objects.values_list("pk", flat=True))
        seconds = took(lambda: (do(backups.create, volume=volume, name=factories.name("backup")), settle(cloud)))
        new = BackupBlock.objects.exclude(pk__in=before)
        sent = sum(new.values_list("size", flat=True)) / MIB
        line(
            f"backup after {changed} of {MIB_OF_DATA} MiB changed",
            target="what is sent follows what has changed",
            seconds=seconds,
            sent_MiB=sent,
            read_MiB_s=MIB_OF_DATA / seconds,
            sent_to_changed=sent / max(changed, 1),
        )

    back_up(MIB_OF_DATA)
    other = tmp_path / "other"
    for changed in (0, 8, 64):
        if changed:
            other.write_bytes(os.urandom(changed * MIB))
            put(cloud, volume, other, changed, at=128)
        back_up(changed)
    layer = path(cloud, volume)
    line("cp of the same volume", seconds=median(lambda: shutil.copyfile(layer, tmp_path / "copy")))


def test_writes_into_a_volume_beside_a_bare_file(cloud, tmp_path):
    """By QEMU's block layer, as an emulator writes for its guest."""

    def mib_per_second(file: Path, format_: str) -> float:
        command = ["qemu-img", "bench", "-w", "-f", format_, "-c", WRITES, "-d", 16, "-s", WRITE_BYTES, file]
        words = list(map(str, command))
        seconds = median(lambda: subprocess.run(words, check=True, capture_output=True))
        return WRITES * WRITE_BYTES / MIB / seconds

    bare = tmp_path / "bare"
    bare.touch()
    os.truncate(bare, 1 << 30)
    of_bare = mib_per_second(bare, "raw")
    volume = placed(cloud)
    of_volume = mib_per_second(path(cloud, volume), "qcow2")
    do(volumes.snapshot, volume=volume, name="before")
    settle(cloud)
    of_layer = mib_per_second(path(cloud, volume), "qcow2")
    line(
        f"writes of {WRITE_BYTES >> 10} KiB, backend local",
        bare_file_MiB_s=of_bare,
        volume_MiB_s=of_volume,
        over_a_snapshot_MiB_s=of_layer,
        ratio=of_volume / of_bare,
        ratio_over_a_snapshot=of_layer / of_bare,
    )
