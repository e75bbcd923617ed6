"""A disk of a real guest that is on another host: two homes on this machine, and TLS between them."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from agent.errors import Refused
from agent.jail import probe
from agent.ledger import Ledger
from agent.paths import Paths
from agent.work import Work
from compute.agent import silence, upkeep
from compute.agent.hypervisors.qemu import control
from storage.agent import layers, qcow2, relays
from storage.agent.serving import Serving, Wanted, chain_of
from tests.clouds import wait_until
from tests.compute.agent.test_plugging import GIB, LOOKING, Running, node  # noqa: F401
from tests.hosts import control_plane, open_home  # noqa: F401
from tests.images.conftest import tiny_linux  # noqa: F401
from tests.storage.ceph import free_ports

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400)]

# Writes numbers down, each after the last one is on the disk, and says what is there.
WRITES = """
(
n=0
while sleep 0.1; do
    [ -b /dev/vdb ] || continue
    n=$((n + 1))
    printf 'n=%06d' $n | dd of=/dev/vdb bs=512 conv=sync,fsync 2>/dev/null || echo "FAILED $n" >/dev/console
    echo 3 >/proc/sys/vm/drop_caches
    [ -b /dev/vdb ] && echo "WROTE $(dd if=/dev/vdb bs=8 count=1 2>/dev/null) " >/dev/console
done
) &
"""
TICKS = "\n(while sleep 1; do echo TICK >/dev/console; done) &\n"


@pytest.fixture
def guest(node, control_plane, tiny_linux):  # noqa: F811
    image = json.loads((tiny_linux / "image.json").read_text())
    control_plane.files |= {file["sha256"]: tiny_linux / file["file"] for file in image["files"]}
    guest = Running(node, control_plane, image)
    guest.spec["seed"]["user_data"] = LOOKING + WRITES
    return guest


@pytest.fixture
def storage_host(open_home):  # noqa: F811
    """The other host."""
    paths = Paths(open_home / "far", open_home / "run")
    paths.make()
    port = free_ports()
    (paths.home / "serves").write_text(f"127.0.0.1:{port}-{port + 1}\n")
    serving = Serving(paths, probe(paths), Ledger(paths.ledger), str(uuid.uuid4()))
    yield serving
    for volume in serving._ledger.rows("SELECT volume FROM served"):
        serving.end(volume["volume"])


def serving(guest):
    """The processes between the guest's emulator and what serves its disks."""
    return [one.pid for one in relays.find(guest.node.paths.home, guest.spec["id"])]


def plugged(guest, *volumes):
    """Order these disks; which are plugged in then."""
    guest.spec["volumes"] = list(volumes)
    facts = guest.order()["facts"]
    assert not facts.get("devices_problem"), facts
    return list(facts["volumes"])


def wrote(guest):
    """The last number that the guest has found on the disk."""
    found = re.findall(r"WROTE n=(\d+) ", guest.home.console_log.read_text(errors="replace"))
    return int(found[-1]) if found else 0


def goes_on(guest):
    before = wrote(guest)
    wait_until(lambda: wrote(guest) > before + 2, 60)
    assert "FAILED" not in guest.home.console_log.read_text(errors="replace")


def number_in(path):
    """Of the layer itself, whatever it lies on."""
    done = subprocess.run(
        ["qemu-io", "-r", "-c", "read -v 0 16", str(path)], check=True, capture_output=True, text=True
    )
    return int(re.search(r"n\.(\d{6})", done.stdout.replace("=", "."))[1])


def test_it_goes_on_whatever_happens_to_what_serves_it(guest, storage_host, tmp_path):
    first, second = tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    qcow2.create(first, GIB)
    ident, name, key = str(uuid.uuid4()), str(uuid.uuid4()), secrets.token_hex(32)
    wanted = Wanted(ident, name, key, False, GIB, chain_of([(first, "qcow2")]))
    place = {**storage_host.start(wanted), "key": key}
    assert storage_host.is_kept(wanted)
    volume = {
        "id": ident, "slot": 1, "serial": "far-away", "read_only": False, "size_bytes": GIB, "served": place,
        "chain": [name], "base_image": None, "limits": {"iops": 500, "bytes_per_second": None},
    }  # fmt: skip
    assert plugged(guest, volume) == [ident]
    guest.says("HAS .*vdb=far-away:2097152:0 ")
    goes_on(guest)
    server = storage_host._find(ident)
    command = Path(f"/proc/{server.pid}/cmdline").read_text()
    [relay] = serving(guest)
    assert key not in command + Path(f"/proc/{relay}/cmdline").read_text(), "anybody may read command lines"
    server.kill()
    server.wait(10)
    assert not storage_host.is_kept(wanted)
    storage_host.start(wanted)
    goes_on(guest)
    # A snapshot: what comes goes to a new layer.
    storage_host.end(ident, but_for=name)
    kept = number_in(first)
    qcow2.create(second, GIB, first, "qcow2")
    over = Wanted(ident, name, key, False, GIB, chain_of([(first, "qcow2"), (second, "qcow2")]))
    storage_host.start(over)
    goes_on(guest)
    # Growth, at both ends.
    storage_host.end(ident, but_for=name)
    qcow2.grow(second, 2 * GIB)
    storage_host.start(Wanted(ident, name, key, False, 2 * GIB, over.chain))
    assert plugged(guest, volume | {"size_bytes": 2 * GIB}) == [ident]
    guest.says("HAS .*vdb=far-away:4194304:0 ")
    goes_on(guest)
    assert plugged(guest) == []
    guest.says("HAS (?!.*vdb)")
    wait_until(lambda: not serving(guest))
    storage_host.end(ident)
    assert storage_host._find(ident) is None
    assert number_in(first) == kept
    assert number_in(second) >= wrote(guest) > kept
    subprocess.run(["qemu-img", "check", "-q", str(second)], check=True)


def is_alive(guest):
    """Its clock goes on: it says what it sees again and again."""
    said = guest.home.console_log.read_text(errors="replace").count("TICK")
    wait_until(lambda: guest.home.console_log.read_text(errors="replace").count("TICK") > said + 1, 20)


def far_away(storage_host, tmp_path):
    """A volume that it serves, as the order names it."""
    disk = tmp_path / "one.qcow2"
    qcow2.create(disk, GIB)
    ident, name, key = str(uuid.uuid4()), str(uuid.uuid4()), secrets.token_hex(32)
    place = storage_host.start(Wanted(ident, name, key, False, GIB, chain_of([(disk, "qcow2")]))) | {"key": key}
    return {
        "id": ident, "slot": 1, "serial": "far-away", "read_only": False, "size_bytes": GIB, "served": place,
        "chain": [name], "base_image": None, "limits": None,
    }  # fmt: skip


def goes_away(storage_host, volume):
    """For good."""
    server = storage_host._find(volume["id"])
    server.kill()
    server.wait(10)


@pytest.mark.parametrize("writes", [False, True])
def test_it_is_detached_while_its_storage_host_is_away(guest, storage_host, tmp_path, writes):
    volume = far_away(storage_host, tmp_path)
    guest.spec["seed"]["user_data"] = LOOKING + (WRITES if writes else "") + TICKS
    assert plugged(guest, volume) == [volume["id"]]
    guest.says("HAS .*vdb=far-away:2097152:0 ")
    if writes:
        goes_on(guest)
    goes_away(storage_host, volume)
    is_alive(guest)
    assert plugged(guest) == []
    is_alive(guest)
    guest.says("HAS (?!.*vdb)")
    assert not serving(guest)


def test_nothing_is_left_when_its_guest_ends_while_its_storage_host_is_away(guest, storage_host, tmp_path):
    volume = far_away(storage_host, tmp_path)
    assert plugged(guest, volume) == [volume["id"]]
    goes_on(guest)
    [relay] = serving(guest)
    assert relay not in children(), "nobody has to wait for its end"
    goes_away(storage_host, volume)
    assert "storage of one of its volumes does not answer" in guest.order("ensure_paused")["facts"]["problem"]
    guest.spec["stop"] = {"force": True}
    assert guest.order("ensure_stopped")["seen"] == "stopped"
    assert not serving(guest)


def children():
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())], check=False, capture_output=True, text=True
    )
    return {int(pid) for pid in found.stdout.split()}


def test_it_is_not_reset_while_its_storage_host_is_away(guest, storage_host, tmp_path):
    """QEMU waits for what is on its way to a disk before it resets it, and the whole guest with it."""
    volume = far_away(storage_host, tmp_path)
    guest.spec["seed"]["user_data"] = LOOKING + WRITES + TICKS
    assert plugged(guest, volume) == [volume["id"]]
    goes_on(guest)
    goes_away(storage_host, volume)
    is_alive(guest)
    guest.spec["reboot"] = {"nonce": str(uuid.uuid4()), "hard": True}
    answer = guest.order("ensure_running")
    is_alive(guest)
    assert "storage of one of its volumes does not answer" in answer["facts"]["problem"]
    del guest.spec["reboot"]
    assert plugged(guest) == [], "detaching it is a way out"
    is_alive(guest)


def test_no_disk_is_snapshot_while_a_storage_host_is_away(guest, storage_host, tmp_path):
    """Also none that is here: QEMU waits for what is on its way to any of them."""
    volume = far_away(storage_host, tmp_path)
    guest.spec["seed"]["user_data"] = LOOKING + WRITES + TICKS
    assert plugged(guest, volume) == [volume["id"]]
    goes_on(guest)
    goes_away(storage_host, volume)
    is_alive(guest)
    machine = guest.node.machine(guest.spec["id"])
    entry = next(one for one in guest.node.ledger.entries() if one.id == guest.spec["id"])
    with control.connect(guest.home) as connection, pytest.raises(Refused, match="does not answer"):
        machine.held_still(entry, connection).__enter__()
    is_alive(guest)
    assert plugged(guest) == []


@pytest.fixture
def falls_silent(guest, storage_host, tmp_path, monkeypatch):
    """A guest that writes to a storage host, which goes away as soon as it has been asked whether it answers."""
    monkeypatch.setattr(control, "SECONDS_TO_ANSWER", 5.0)
    monkeypatch.setattr(silence, "SECONDS_TO_COME_BACK", 0.0)
    volume = far_away(storage_host, tmp_path)
    guest.spec["seed"]["user_data"] = LOOKING + WRITES + TICKS
    assert plugged(guest, volume) == [volume["id"]]
    goes_on(guest)
    ask, asked = layers.Layers.silent, []

    def silent(*words):
        found = ask(*words)
        if not asked:
            asked.append(found)
            goes_away(storage_host, volume)
            time.sleep(1.0)  # so that something is on its way
        return found

    monkeypatch.setattr(layers.Layers, "silent", silent)
    yield guest
    assert asked == [[]]


def entry_of(guest):
    return next(one for one in guest.node.ledger.entries() if one.id == guest.spec["id"])


def test_what_falls_silent_after_it_was_asked_freezes_no_guest(falls_silent):
    guest = falls_silent
    answer = guest.order("ensure_paused")
    assert answer["seen"] == "paused"
    assert not serving(guest)
    seen, facts = upkeep.look(guest.node.machine(guest.spec["id"]), entry_of(guest), "")
    assert (seen, facts["problem"]) == ("paused", silence.CUT_OFF)
    assert guest.order()["seen"] == "running"
    is_alive(guest)
    assert plugged(guest) == [], "it can be detached, and attached anew"
    is_alive(guest)
    _, facts = upkeep.look(guest.node.machine(guest.spec["id"]), entry_of(guest), "")
    assert "problem" not in facts


def test_what_falls_silent_freezes_no_guest_that_is_reset(falls_silent):
    guest = falls_silent
    guest.spec["reboot"] = {"nonce": str(uuid.uuid4()), "hard": True}
    assert guest.order()["seen"] == "running"
    assert not serving(guest)
    started = lambda: guest.home.console_log.read_text(errors="replace").count("READY web")  # noqa: E731
    wait_until(lambda: started() == 2, 120)


def test_what_falls_silent_freezes_no_guest_of_which_a_disk_is_kept(falls_silent):
    guest = falls_silent
    machine = guest.node.machine(guest.spec["id"])
    target = guest.home.directory / "copy.qcow2"
    guest.node.kinds["instance"].copy_disk(guest.spec["id"], target, work := Work(), lambda *_: None)
    work.check()
    assert machine.hypervisor(entry_of(guest)).find(guest.home)
    assert not serving(guest)
    is_alive(guest)


def test_who_stands_still_for_its_storage_says_so(guest, storage_host, tmp_path, monkeypatch):
    """Such as a guest that resets itself; and when the storage comes back, it goes on, and nothing is lost."""
    monkeypatch.setattr(control, "SECONDS_TO_ANSWER", 5.0)
    volume = far_away(storage_host, tmp_path)
    guest.spec["seed"]["user_data"] = LOOKING + WRITES + TICKS
    assert plugged(guest, volume) == [volume["id"]]
    goes_on(guest)
    server = storage_host._find(volume["id"])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        time.sleep(1.0)  # so that something is on its way
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(guest.home.control_socket))
            monitor.sendall(b'{"execute": "qmp_capabilities"} {"execute": "stop"}')
            machine = guest.node.machine(guest.spec["id"])
            assert not relays.is_answered(volume["served"]["host"], volume["served"]["port"]), "it only listens"
            seen, facts = upkeep.look(machine, entry_of(guest), "")
        assert (seen, facts["problem"]) == ("running", silence.WAITS)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    with control.connect(guest.home) as connection:
        connection.resume()
    goes_on(guest)
    _, facts = upkeep.look(machine, entry_of(guest), "")
    assert "problem" not in facts


def test_nobody_pauses_what_no_row_owns_while_its_storage_is_silent(guest, storage_host, tmp_path):
    """It is paused as soon as that is possible."""
    volume = far_away(storage_host, tmp_path)
    guest.spec["seed"]["user_data"] = LOOKING + WRITES + TICKS
    assert plugged(guest, volume) == [volume["id"]]
    goes_on(guest)
    key = entry_of(guest).key
    server = storage_host._find(volume["id"])
    os.kill(server.pid, signal.SIGSTOP)
    guest.node.set_quarantined(key)
    is_alive(guest)
    os.kill(server.pid, signal.SIGCONT)
    guest.node.notice(key)
    assert guest.node.ledger.get(key).seen == "paused"
