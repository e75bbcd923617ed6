"""What a guest writes into volumes of each backend, beside a bare QEMU in the same run.

That has a raw file, an image of its own in the same Ceph cluster through QEMU's driver `rbd`, or a raw file behind a
bare `qemu-nbd`. The cluster is the one of the tests, with all in memory: only the ratios say something.
"""

import contextlib
import os
import re
import secrets
import socket
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.jail import Jail, probe
from agent.ledger import Ledger
from agent.paths import Paths
from storage.agent import qcow2
from storage.agent.ceph import Clusters
from storage.agent.pools import MARKER
from storage.agent.rbd import Images
from storage.agent.serving import Serving, Wanted, chain_of
from tests.benchmarks.measuring import line
from tests.clouds import wait_until
from tests.compute.agent.test_plugging import GIB, node  # noqa: F401
from tests.compute.agent.test_real_volumes import give, start  # noqa: F401
from tests.hosts import control_plane, open_home  # noqa: F401
from tests.images.conftest import tiny_linux  # noqa: F401
from tests.storage.ceph import POOL, free_ports

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
MIB_AT_ONCE, ROUNDS = 256, 4
Rates = tuple[float, float]  # MiB a second: the first time, and afterwards
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


def rates(console: Callable[[], str], serial: str) -> Rates:
    """MiB a second of the first time, when space is allocated, and of the times after that, once the guest has said all
    of them."""
    deadline = time.monotonic() + SECONDS_FOR_ALL
    while len(found := re.findall(rf"WROTE {serial} ([\d.]+) ([\d.]+)", console())) < ROUNDS:
        assert time.monotonic() < deadline, console()
        time.sleep(0.2)
    first, *again = [MIB_AT_ONCE / (float(ended) - float(began)) for began, ended in found]
    return first, statistics.median(again)


def bare(guest, tmp_path, drive: str) -> Rates:
    """The same guest in a QEMU that was started by hand. `drive`: where its data is, as QEMU's `-drive` says it."""
    console = tmp_path / f"console-{uuid.uuid4()}"
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
        "-drive", f"{drive},format=raw,if=none,id=data", "-device", "virtio-blk-pci,drive=data,serial=bare",
        "-device", "virtio-scsi-pci", "-drive", f"file={guest.home.seed},format=raw,if=none,id=seed,readonly=on",
        "-device", "scsi-cd,drive=seed",
    ]  # fmt: skip
    with subprocess.Popen(list(map(str, words))) as process:
        try:
            return rates(lambda: console.read_text(errors="replace") if console.exists() else "", "bare")
        finally:
            process.kill()


def raw_file(tmp_path: Path) -> Path:
    raw = tmp_path / f"raw-{uuid.uuid4()}"
    raw.touch()
    os.truncate(raw, GIB)
    return raw


@contextlib.contextmanager
def bare_server(raw: Path) -> Iterator[str]:
    """A `qemu-nbd` as one starts it by hand, without TLS; the drive that leads to it."""
    port = free_ports()
    words = ["qemu-nbd", "--persistent", "--bind=127.0.0.1", f"--port={port}", "--format=raw", raw]

    def listens() -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    with subprocess.Popen(words) as server:
        try:
            wait_until(listens)
            yield f"file=nbd:127.0.0.1:{port}"
        finally:
            server.kill()


@pytest.fixture
def guest(start):  # noqa: F811
    return start(WRITING)


@pytest.fixture
def storage_host(open_home):  # noqa: F811
    """Another host, on this machine."""
    paths = Paths(open_home / "far", open_home / "run")
    paths.make()
    port = free_ports()
    (paths.home / "serves").write_text(f"127.0.0.1:{port}-{port + 1}\n")
    return Serving(paths, probe(paths), Ledger(paths.ledger), str(uuid.uuid4()))


def volume(guest, name: str, *chain: str, **more) -> Rates:
    """Of a volume that the guest gets. `more`: where its layers are, if they are no files of this host."""
    one = {"id": str(uuid.uuid4()), "slot": 1, "serial": name, "read_only": False, "boot": False, "limits": None}
    give(guest, {**one, "size_bytes": GIB, "chain": list(chain), "base_image": None, **more})
    found = rates(lambda: guest.home.console_log.read_text(errors="replace"), name)
    give(guest)
    return found


def compare(backend: str, found: Rates, of_bare: Rates) -> None:
    line(
        f"writes of a guest, {MIB_AT_ONCE} MiB, backend {backend}",
        first_MiB_s=found[0],
        again_MiB_s=found[1],
        bare_first_MiB_s=of_bare[0],
        bare_again_MiB_s=of_bare[1],
        ratio_first=found[0] / of_bare[0],
        ratio_again=found[1] / of_bare[1],
    )


def test_writes_of_a_guest(guest, node, tmp_path):  # noqa: F811
    paths: Paths = node.tools.paths
    pool = str(uuid.uuid4())
    folder = paths.home / "pools" / "shared"
    folder.mkdir(parents=True)
    (folder / MARKER).write_text(pool)
    layers = node.machines.tools.layers

    def layer(**more) -> str:
        made = str(uuid.uuid4())
        layers.create(made, GIB, **more)
        return made

    of_bare = bare(guest, tmp_path, f"file={raw_file(tmp_path)}")
    local = layer()
    compare("local", volume(guest, "local", local), of_bare)
    compare("local, over a snapshot", volume(guest, "over", local, layer(parent=local)), of_bare)
    compare("shared folder on the same disk", volume(guest, "shared", layer(pool=pool)), of_bare)


def test_writes_of_a_guest_into_ceph(guest, tmp_path, ceph):
    ceph.lead_to(guest.node.paths.home, "one")
    clusters = Clusters(guest.node.paths, Jail())
    wait_until(clusters.facts)
    [pool] = clusters.facts()
    images, ours, others = Images(clusters.get(pool)), str(uuid.uuid4()), str(uuid.uuid4())
    for image in (ours, others):
        images.create(image, GIB)
    of_bare = bare(guest, tmp_path, f"file=rbd:{POOL}/{others}:id=admin:conf={ceph.conf},cache=none")
    compare("ceph", volume(guest, "ceph", ours, ceph=pool, rbd=ours, keeps=None), of_bare)
    for image in (ours, others):
        images.remove(image)


def test_writes_of_a_guest_to_a_storage_host(guest, storage_host, tmp_path):
    with bare_server(raw_file(tmp_path)) as drive:
        of_bare = bare(guest, tmp_path, drive)
    ident, name, key, layer = str(uuid.uuid4()), str(uuid.uuid4()), secrets.token_hex(32), tmp_path / "layer.qcow2"
    qcow2.create(layer, GIB)
    place = storage_host.start(Wanted(ident, name, key, False, GIB, chain_of([(layer, "qcow2")])))
    try:
        compare("nbd", volume(guest, "nbd", name, served={**place, "key": key}), of_bare)
    finally:
        storage_host.end(ident)
