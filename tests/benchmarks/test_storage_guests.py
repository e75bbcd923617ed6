"""What a guest writes into volumes of each backend, beside a bare QEMU with a raw file in the same run."""

import os
import re
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable

import pytest

from agent.paths import Paths
from storage.agent.pools import MARKER
from tests.benchmarks.measuring import line
from tests.compute.agent.test_plugging import GIB, node  # noqa: F401
from tests.compute.agent.test_real_volumes import give, start  # noqa: F401
from tests.hosts import control_plane, open_home  # noqa: F401
from tests.images.conftest import tiny_linux  # noqa: F401

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
MIB_AT_ONCE, ROUNDS = 256, 4
SECONDS_FOR_ALL = 600
# Writes to each new disk, and says when by its own clock. `conv=fsync`: until all of it is on the disk.
WRITING = f"""#!/bin/sh
(
while sleep 0.2; do
    for each in /sys/block/vd[b-z]; do
        serial=$(cat $each/serial 2>/dev/null)
        [ -n "$serial" ] && [ ! -e /tmp/$serial ] && [ "$(cat $each/size)" = {GIB // 512} ] || continue
        touch /tmp/$serial
        for round in $(seq {ROUNDS}); do
            began=$(cut -d ' ' -f 1 /proc/uptime)
            dd if=/dev/zero of=/dev/${{each##*/}} bs=1M count={MIB_AT_ONCE} conv=fsync 2>/dev/null
            echo "WROTE $serial $began $(cut -d ' ' -f 1 /proc/uptime)" >/dev/console
        done
    done
done
) &
"""


def rates(console: Callable[[], str], serial: str) -> tuple[float, float]:
    """MiB a second of the first time, when space is allocated, and of the times after that, once the guest has said all
    of them."""
    deadline = time.monotonic() + SECONDS_FOR_ALL
    while len(found := re.findall(rf"WROTE {serial} ([\d.]+) ([\d.]+)", console())) < ROUNDS:
        assert time.monotonic() < deadline, console()
        time.sleep(0.2)
    first, *again = [MIB_AT_ONCE / (float(ended) - float(began)) for began, ended in found]
    return first, statistics.median(again)


def bare(guest, tmp_path) -> tuple[float, float]:
    """The same guest in a QEMU that was started by hand."""
    console, raw = tmp_path / "console", tmp_path / "raw"
    raw.touch()
    os.truncate(raw, GIB)
    files = {
        file["role"]: guest.node.machines.tools.images.directory / file["sha256"]
        for file in guest.spec["image"]["files"]
    }
    words = [
        "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", str(guest.spec["memory_mib"]),
        "-nodefaults", "-display", "none", "-serial", f"file:{console}", "-no-reboot",
        "-kernel", files["kernel"], "-initrd", files["initrd"], "-append", guest.spec["image"]["kernel_command_line"],
        "-drive", f"file={files['disk']},format=qcow2,if=none,id=root,snapshot=on",
        "-device", "virtio-blk-pci,drive=root,serial=root",
        "-drive", f"file={raw},format=raw,if=none,id=data", "-device", "virtio-blk-pci,drive=data,serial=bare",
        "-device", "virtio-scsi-pci", "-drive", f"file={guest.home.seed},format=raw,if=none,id=seed,readonly=on",
        "-device", "scsi-cd,drive=seed",
    ]  # fmt: skip
    with subprocess.Popen(list(map(str, words))) as process:
        try:
            return rates(lambda: console.read_text(errors="replace") if console.exists() else "", "bare")
        finally:
            process.kill()


def test_writes_of_a_guest(start, node, tmp_path):  # noqa: F811
    guest = start(WRITING)
    paths: Paths = node.tools.paths
    pool = str(uuid.uuid4())
    folder = paths.home / "pools" / "shared"
    folder.mkdir(parents=True)
    (folder / MARKER).write_text(pool)
    layers = node.machines.tools.layers

    def volume(name: str, *chain: str) -> tuple[float, float]:
        one = {"id": str(uuid.uuid4()), "slot": 1, "serial": name, "read_only": False, "boot": False}
        give(guest, {**one, "size_bytes": GIB, "chain": list(chain), "base_image": None, "limits": None})
        found = rates(lambda: guest.home.console_log.read_text(errors="replace"), name)
        give(guest)
        return found

    def layer(**more) -> str:
        made = str(uuid.uuid4())
        layers.create(made, GIB, **more)
        return made

    of_bare = bare(guest, tmp_path)
    local = layer()
    for name, found in (
        ("local", volume("local", local)),
        ("local, over a snapshot", volume("over", local, layer(parent=local))),
        ("shared folder on the same disk", volume("shared", layer(pool=pool))),
    ):
        line(
            f"writes of a guest, {MIB_AT_ONCE} MiB, backend {name}",
            first_MiB_s=found[0],
            again_MiB_s=found[1],
            bare_first_MiB_s=of_bare[0],
            bare_again_MiB_s=of_bare[1],
            ratio_first=found[0] / of_bare[0],
            ratio_again=found[1] / of_bare[1],
        )
