"""Linux on the embedded emulator: what it reads is what it wrote, however often it is stopped in between."""

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.compute.agent.unicorn.guest import Guest, on_one_wire
from tests.compute.agent.unicorn.test_snapshots import LOG_IN, log_in

# One guest at a time needs no machine to itself, only one processor.
pytestmark = pytest.mark.timeout(900)
MIB = 64


@contextmanager
def stopped_every_millisecond(guest: Guest) -> Iterator[None]:
    """Have the guest's processor stopped from outside all the time, and see that it was."""
    done, stops = threading.Event(), 0

    def stop() -> None:
        nonlocal stops
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as stream:
            connection.connect(str(guest.home / "c"))
            while not done.wait(0.001):
                stream.write('{"execute": "stats"}\n')
                stream.flush()
                stops = json.loads(stream.readline())["return"]["hart"]["stops"]

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert stops > MIB


def sums(text: str) -> list[str]:
    return re.findall(r"\b[0-9a-f]{32}\b", text)


def test_a_disk_gives_back_what_it_got(make_linux):
    guest = make_linux(memory_mib=192, user_data=LOG_IN).start()
    guest.wait_for("READY guest-1")
    log_in(guest)
    before = guest("stats")["hart"]["stops"]
    with stopped_every_millisecond(guest):
        script = f"dd if=/dev/urandom of=/f bs=1M count={MIB} 2>/dev/null; md5sum </f; sync"
        script += "; echo 3 >/proc/sys/vm/drop_caches; md5sum </f; cp /f /g; sync; cmp /f /g && echo sa''me"
        guest.type(script, "same", 400)
    assert guest("stats")["hart"]["stops"] - before > 1000
    first, second = sums(guest.text)[-2:]
    assert first == second
    assert "BUG" not in guest.type("dmesg | grep -c -e BUG -e WARN -e stall; echo gre''pped", "grepped")
    guest("power_button")
    guest.wait_for_power("off", 60)
    assert guest.quit() == 0
    disk, raw = guest.home / "disk.qcow2", guest.home / "raw"
    assert subprocess.run(["qemu-img", "check", "-q", str(disk)], check=False).returncode == 0
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True)
    assert subprocess.run(["/usr/sbin/e2fsck", "-fn", str(raw)], check=False, capture_output=True).returncode == 0
    dumped = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "dump /g /dev/stdout", str(raw)], check=True, capture_output=True
    )
    assert len(dumped.stdout) == MIB << 20


def test_what_was_flushed_outlives_a_killed_emulator(make_linux):
    guest = make_linux(memory_mib=128, user_data=LOG_IN).start()
    guest.wait_for("READY guest-1")
    log_in(guest)
    guest.type("echo precious > /root/kept; sync; echo sy''nced", "synced")
    guest.kill()
    for name in ("c", "s"):
        (guest.home / name).unlink()
    (guest.home / "console.log").unlink()
    guest.start()
    guest.wait_for("READY guest-1")
    log_in(guest)
    assert guest.type("cat /root/kept", "precious") == "precious"
    assert "clean" not in guest.type("dmesg | grep -ci 'corrupt'", "0")


def test_two_guests_on_one_wire_hear_each_other_right(make_linux):
    one, two = guests = on_one_wire(partial(make_linux, memory_mib=256, user_data=LOG_IN))
    for guest in guests:
        log_in(guest)
    assert "0% packet loss" in one.type("ping -c 3 10.0.0.2", "packets transmitted", 60)
    two.type(f"dd if=/dev/urandom of=/dev/shm/f bs=1M count={MIB} 2>/dev/null; md5sum </dev/shm/f; echo ma''de", "made")
    listens = "until grep -q ':1388 .* 0A ' /proc/net/tcp*; do sleep 0.1; done"  # somebody, at port 5000
    two.type(f"nc -l -p 5000 </dev/shm/f & {listens}; echo liste''ning", "listening", 60)
    with stopped_every_millisecond(one):
        began = time.monotonic()
        # Busybox's nc ends when it has nothing to send: give it something to wait for.
        receive = "mkfifo /tmp/wait; exec 9<>/tmp/wait; nc 10.0.0.2 5000 </tmp/wait | md5sum"
        one.type(f"{receive}; echo recei''ved", "received", 600)
        took = time.monotonic() - began
    print(f"{MIB} MiB in {took:.1f} s: {MIB * 8.39 / took:.0f} Mbit/s")
    assert sums(one.text)[-1] == sums(two.text)[-1]
