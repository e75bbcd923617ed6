"""A whole cloud: from POST to READY beside the same emulator run bare, and what the cloud costs when idle."""

import json
import os
import re
import shutil
import statistics
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.measuring import line
from tests.clouds import wait_until

pytestmark = [pytest.mark.benchmark, pytest.mark.vm]

ROUNDS = 5
INSTANCES = "/projects/demo/instances"


def emulator_of(machine_id: str) -> psutil.Process | None:
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if (process.info["name"] or "").startswith("qemu-system") and machine_id in " ".join(words):
            return process
    return None


def launched(api, name: str) -> tuple[float, list[str], Path]:
    """Seconds from POST to READY by the API; the emulator's command line, and the machine's folder.

    It is on no network, as the bare emulator is: what a network adds is measured by itself.
    """
    began = time.perf_counter()
    body = {"name": name, "flavor": "tiny", "image": "tiny-linux", "networks": []}
    answer = api.post(INSTANCES, json=body)
    assert answer.status_code == 202, answer.text
    path = f"{INSTANCES}/{name}/console-log?lines=50"
    wait_until(lambda: any(re.match(rf"READY {name} ", text) for text in api.get(path).json()["lines"]), 120, 0.05)
    seconds = time.perf_counter() - began
    emulator = emulator_of(answer.json()["id"])
    assert emulator is not None
    argv = emulator.cmdline()
    return seconds, argv, Path(re.search(r"filename=([^,]+)/seed.iso", " ".join(argv))[1])


def run_bare(argv: list[str], home: Path, folder: Path, name: str) -> float:
    """Seconds from exec to READY of the same command line, on a fresh disk, without cloud or jail."""
    folder.mkdir()
    sockets = re.search(r"path=([^,]+)/serial", " ".join(argv))[1]
    shutil.copy(home / "seed.iso", folder)
    disk = folder / "disk.qcow2"
    base, format_ = base_of(home / "disk.qcow2")
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", format_, "-b", base, disk, "1G"]
    subprocess.run(create, check=True)
    # Without -S, which keeps it stopped until the agent has set its limits.
    own = [word.replace(sockets, str(folder)).replace(str(home), str(folder)) for word in argv if word != "-S"]
    log = folder / "console.log"
    with ExitStack() as files:
        descriptors = {"base": opened(base, os.O_RDONLY, files), "vda": opened(disk, os.O_RDWR, files)}
        own = [with_descriptor(word, descriptors) for word in own]
        began = time.perf_counter()
        emulator = subprocess.Popen(
            own, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=tuple(descriptors.values())
        )
        files.callback(emulator.wait)
        files.callback(emulator.kill)
        wait_until(lambda: log.exists() and f"READY {name} " in log.read_text(errors="replace"), 120, 0.02)
        return time.perf_counter() - began


def base_of(disk: Path) -> tuple[str, str]:
    """The file that a disk lies on, and its format."""
    asked = subprocess.run(["qemu-img", "info", "--output=json", disk], check=True, capture_output=True)
    found = json.loads(asked.stdout)
    return found["backing-filename"], found["backing-filename-format"]


def opened(path: Path | str, flags: int, files: ExitStack) -> int:
    descriptor = os.open(path, flags)
    files.callback(os.close, descriptor)
    return descriptor


def with_descriptor(word: str, descriptors: dict[str, int]) -> str:
    """A word of the command line; one that hands over an open file by this descriptor, by the name of the layer."""
    found = re.fullmatch(r"fd=\d+,(set=\d+,opaque=(.+))", word)
    return f"fd={descriptors[found[2]]},{found[1]}" if found else word


def test_launch_to_ready_beside_the_bare_emulator(machine, short_path):
    cloud, bare = [], []
    with machine.api() as api:
        for number in range(ROUNDS):
            name = f"bench{number}"
            seconds, argv, home = launched(api, name)
            cloud.append(seconds)
            kept = short_path / f"kept{number}"
            shutil.copytree(home, kept)
            api.delete(f"{INSTANCES}/{name}?purge=true")
            wait_until(lambda name=name: api.get(f"{INSTANCES}/{name}").status_code == 404, 60)
            argv = [word.replace(str(home), str(kept)) for word in argv]
            bare.append(run_bare(argv, kept, short_path / f"bare{number}", name))
    overhead = [one - other for one, other in zip(cloud, bare, strict=True)]
    line("POST to READY by the API", p50_s=statistics.median(cloud))
    line("exec to READY of the bare emulator", p50_s=statistics.median(bare))
    line("what the cloud adds", target="≤ 1.0 s p50", p50_s=statistics.median(overhead))


def test_what_an_idle_cloud_costs(machine):
    with machine.api() as api:
        api.post(f"{INSTANCES}/first/stop", json={})
        wait_until(lambda: api.get(f"{INSTANCES}/first").json()["status"] == "stopped", 60)
    pids = [entry[0] for name, entry in json.loads(machine.home.pids.read_text()).items() if name != "boot_id"]
    processes = {one for pid in pids for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]}
    time.sleep(20)  # let it come to rest
    before = sum(cpu_seconds(process) for process in processes)
    time.sleep(30)
    used = sum(cpu_seconds(process) for process in processes) - before
    memory = sum(process.memory_full_info().pss for process in processes) / 2**20
    with machine.api() as api:  # others find it as it was
        api.post(f"{INSTANCES}/first/start", json={})
        wait_until(lambda: api.get(f"{INSTANCES}/first").json()["status"] == "running", 60)
    line("idle cloud", target="≤ 700 MiB PSS, ≤ 3 % of a core", pss_mib=memory, core_percent=used / 30 * 100)


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
