"""The embedded emulator beside qemu-system-riscv64 in one run: the same image, one after the other, several times.

CPU seconds are the figures to trust where others use the machine, too.
"""

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compute.agent.hypervisors.unicorn.board.translations import WINDOW_SECONDS
from tests.benchmarks.measuring import line
from tests.compute.agent.unicorn.guest import Guest, on_one_wire
from tests.compute.agent.unicorn.test_snapshots import LOG_IN, clone_of, log_in, save

pytestmark = [pytest.mark.benchmark, pytest.mark.vm, pytest.mark.timeout(1800)]
BOOTS = 3
CLONES = 10
MEMORY_MIB = 192
NETWORK_MIB = 16
# Busybox's nc ends when it has nothing to send: it is given something to wait for.
RECEIVE = "mkfifo /tmp/wait; exec 9<>/tmp/wait; until nc 10.0.0.1 5000 </tmp/wait >/tmp/got; do usleep 9999; done"
QEMU = "qemu-system-riscv64"
LOADS = {
    "shell, 20000 rounds": "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done",
    "md5 of 32 MiB": "dd if=/dev/zero of=/dev/shm/z bs=1M count=32 2>/dev/null; md5sum /dev/shm/z >/dev/null",
    "disk: write 32 MiB": "dd if=/dev/zero of=/f bs=1M count=32 conv=fsync 2>/dev/null",
    "disk: read 32 MiB": "echo 3 >/proc/sys/vm/drop_caches; dd if=/f of=/dev/null bs=1M 2>/dev/null",
    "100 processes": "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i + 1)); done",
}


@pytest.fixture
def open_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = Path("/tmp") / f"pb-{os.getpid()}"  # short: there are sockets in it
    home.mkdir()
    yield home
    shutil.rmtree(home, ignore_errors=True)


class QemuGuest(Guest):
    """The same machine under QEMU: its console is the log, its control is not used."""

    def start(self, *, descriptors: tuple[int, ...] = ()) -> "QemuGuest":
        d = self.description
        argv = [QEMU, "-M", "virt", "-m", f"{d['memory_mib']}M", "-nodefaults", "-display", "none"]
        argv += ["-accel", "tcg,tb-size=128", "-kernel", d["kernel"], "-initrd", d["initrds"][0]]
        argv += ["-append", d["command_line"], "-device", "virtio-rng-pci"]
        for number, disk in enumerate(d["disks"]):
            read_only = ",readonly=on" if disk.get("read_only") else ""
            argv += ["-drive", f"if=none,id=d{number},file={disk['path']},format={disk['format']}{read_only}"]
            argv += ["-device", f"virtio-blk-pci,drive=d{number}"]
        (nic,) = d["nics"]
        network = "user,id=n,restrict=on"
        if nic["network"] == "descriptor":
            network = f"dgram,id=n,local.type=fd,local.str={nic['descriptor']}"
        argv += ["-netdev", network, "-device", f"virtio-net-pci,netdev=n,romfile=,mac={nic['mac']}"]
        serial = f"socket,id=s,path={d['serial']},server=on,wait=off,logfile={d['console_log']}"
        argv += ["-chardev", serial, "-serial", "chardev:s"]
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
        )
        self._serial = self._connect(self.home / "s")
        # QEMU's guest stands still when nobody reads.
        threading.Thread(target=self._drain, daemon=True).start()
        return self

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while self._serial is not None and self._serial.recv(65536):
                pass


def kinds() -> list[tuple[str, type[Guest]]]:
    return [("unicorn", Guest), *([("qemu", QemuGuest)] if shutil.which(QEMU) else [])]


def boot(kind: type[Guest], image: Path, home: Path) -> tuple[Guest, float]:
    guest = kind.of_image(image, home, memory_mib=MEMORY_MIB, user_data=LOG_IN)
    began = time.monotonic()
    guest.start()
    guest.wait_for("READY guest-1")
    return guest, time.monotonic() - began


def test_boot_to_ready(riscv_linux, open_home):
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for number in range(BOOTS):
        for name, kind in kinds():
            guest, seconds = boot(kind, riscv_linux, open_home / f"{name}{number}")
            wall.setdefault(name, []).append(seconds)
            cpu.setdefault(name, []).append(guest.cpu_seconds())
            guest.close()
    for name, seconds_of_cpu in cpu.items():
        line(f"boot to READY, {name}", wall_s=statistics.median(wall[name]), cpu_s=statistics.median(seconds_of_cpu))
    if "qemu" in cpu:
        ratio = statistics.median(cpu["unicorn"]) / statistics.median(cpu["qemu"])
        line("boot to READY, unicorn / qemu", cpu=ratio, target="≤ 1.3")


def test_throughput_and_idling(riscv_linux, open_home):
    for name, kind in kinds():
        guest, _ = boot(kind, riscv_linux, open_home / name)
        log_in(guest)
        figures: dict[str, float] = {}
        for number, (what, script) in enumerate(LOADS.items()):
            before = guest.cpu_seconds()
            guest.type(f"{script}; echo do''ne{number}", f"done{number}", 200)
            figures[what] = guest.cpu_seconds() - before
        line(f"CPU seconds, {name}", **figures)
        time.sleep(15)  # until what the loads have left is written
        before, began = guest.cpu_seconds(), time.monotonic()
        time.sleep(10)
        idle = (guest.cpu_seconds() - before) / (time.monotonic() - began) * 100
        line(f"idle, {name}", percent_of_a_core=idle, target="≤ 2")
        guest.close()


def test_network_throughput(riscv_linux, open_home):
    """From one guest to another of its kind over a socket: both together, so on two processors at most."""
    for name, kind in kinds():
        sender, receiver = guests = on_one_wire(partial(below, kind, riscv_linux, open_home / name))
        for guest in guests:
            log_in(guest)
        sender.type(f"dd if=/dev/zero of=/dev/shm/f bs=1M count={NETWORK_MIB} 2>/dev/null; echo ma''de", "made")
        sender.type_keys("nc -l -p 5000 </dev/shm/f\n")
        began, before = time.monotonic(), [guest.cpu_seconds() for guest in guests]
        receiver.type(f"{RECEIVE}; echo recei''ved $(wc -c </tmp/got)", f"received {NETWORK_MIB << 20}", 200)
        took, cpu = time.monotonic() - began, [guest.cpu_seconds() for guest in guests]
        of_sender, of_receiver = (after - earlier for after, earlier in zip(cpu, before, strict=True))
        line(
            f"network, {NETWORK_MIB} MiB, {name}",
            Mbit_per_s=NETWORK_MIB * 8.388608 / took,
            sender_cpu_s=of_sender,
            receiver_cpu_s=of_receiver,
        )
        for guest in guests:
            guest.close()


def below(kind: type[Guest], image: Path, directory: Path, *, hostname: str, **identity: Any) -> Guest:
    """A guest at home in a directory of its name."""
    home = directory / hostname
    return kind.of_image(image, home, memory_mib=MEMORY_MIB, user_data=LOG_IN, hostname=hostname, **identity)


def test_restore_and_clone(make_linux, open_home, tmp_path):
    golden = make_linux(memory_mib=MEMORY_MIB, user_data=LOG_IN, hostname="golden").start()
    golden.wait_for("READY golden")
    log_in(golden)
    golden.type("sync; sleep 2; echo re''ady", "ready")
    began = time.monotonic()
    saved = save(golden, tmp_path / "snapshot")
    line("snapshot", s=time.monotonic() - began, memory_MiB=saved["memory_bytes"] / (1 << 20))
    restores = []
    for number in range(10):
        began = time.monotonic()
        golden("restore", directory=str(tmp_path / "snapshot"), generation="same")
        golden("resume")
        golden.type(f"echo out''put{number}", f"output{number}")
        restores.append((time.monotonic() - began) * 1000)
    line("restore in place to first output", ms=statistics.median(restores), target="≤ 150")
    golden.quit()
    clones = []
    with contextlib.ExitStack() as stack:
        # As the agent does: what the self-test found is known by then.
        golden.description["exact_stops"] = True
        for what, user_data in (("", ""), (", and a password hashed", LOG_IN)):
            wall, cpu = [], []
            for _ in range(CLONES // 2):
                number = len(clones)
                clone = clone_of(golden, tmp_path / "snapshot", open_home / f"c{number}", number, user_data)
                stack.callback(clone.close)
                began = time.monotonic()
                clone.start()
                clone.wait_for(f"READY clone-{number} ")
                wall.append((time.monotonic() - began) * 1000)
                cpu.append(clone.cpu_seconds() * 1000)
                clones.append(clone)
            line(
                f"clone: process to READY as somebody else{what}",
                ms=statistics.median(wall),
                cpu_ms=statistics.median(cpu),
                target="≤ 500",
            )
        line("memory of a clone that has just begun", **pss(clones))
        time.sleep(2.5 * WINDOW_SECONDS)
        line("memory of an idle clone", **pss(clones), target="PSS ≤ 30 MiB")


def pss(guests: list[Guest]) -> dict[str, float]:
    """Medians in MiB."""
    found: dict[str, list[float]] = {"Pss": [], "Private_Dirty": [], "Rss": []}
    for guest in guests:
        assert guest.process is not None
        rollup = Path(f"/proc/{guest.process.pid}/smaps_rollup").read_text()
        for name, values in found.items():
            match = re.search(rf"^{name}:\s+(\d+) kB", rollup, re.MULTILINE)
            values.append(int(match.group(1)) / 1024 if match else 0.0)
    return {f"{name}_MiB": statistics.median(values) for name, values in found.items()}
