"""The whole computer of the embedded emulator as a process, with guests of a few instructions and with U-Boot."""

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from compute.agent.hypervisors.unicorn.board import confinement, engine, fdt, sbi
from compute.agent.hypervisors.unicorn.board.devicetree import Contents, devicetree
from compute.agent.hypervisors.unicorn.board.memory import BASE, Ram
from tests.compute.agent.unicorn import payload
from tests.compute.agent.unicorn.guest import BOARD, Refusal


def test_stops_from_outside_are_exact():
    assert engine.stops_exactly(stops=300)


def test_the_self_test_notices_an_engine_that_repeats_what_was_done(monkeypatch):
    monkeypatch.setattr(engine.Engine, "_make_stops_exact", lambda self: True)
    assert not engine.stops_exactly(stops=100)


def test_an_engine_of_another_build_is_run_in_slices(monkeypatch):
    monkeypatch.setattr(engine.ctypes, "string_at", lambda *_: bytes(3584))
    monkeypatch.setattr(ctypes, "string_at", lambda *_: bytes(3584))
    assert not engine.stops_exactly()


def test_every_verb_of_the_engine_is_there():
    ram = Ram(1 << 20)
    subject = engine.Engine(ram)
    subject.flush_translations()
    subject.forget_code(BASE, 4096)
    subject.set_pending(2, 2)
    subject.save()
    assert subject.words[engine.MIP] & 2
    subject.set_content(subject.content())
    subject.close()
    ram.close()


@pytest.mark.parametrize("extension", [*sbi.EXTENSIONS, *sbi.LEGACY, 0x1234])
def test_a_guest_that_makes_every_call_of_the_firmware_goes_on(make_guest, extension):
    if extension in (sbi.SRST, sbi.LEGACY_SHUTDOWN):
        pytest.skip("that one ends it")
    guest = make_guest(payload.calling(extension)).start()
    guest.wait_for("hello from a very small guest", 20)
    assert guest.quit() == 0


def test_whoever_finds_a_socket_is_answered(make_guest):
    for _ in range(5):
        guest = make_guest(payload.greeting())
        process = subprocess.Popen([sys.executable, "-I", str(BOARD), json.dumps(guest.description)])
        try:
            while not (guest.home / "c").exists():
                assert process.poll() is None
            for name in ("c", "s"):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(str(guest.home / name))
        finally:
            process.kill()
            process.wait()


def test_a_guest_greets_and_waits_without_computing(make_guest):
    guest = make_guest(payload.greeting()).start()
    guest.wait_for("hello from a very small guest", 20)
    before = guest.cpu_seconds()
    time.sleep(1)
    assert guest.cpu_seconds() - before < 0.05
    assert guest("stats")["hart"]["waits"] >= 1
    assert guest.quit() == 0


@pytest.mark.parametrize("kernel", [payload.spinning(), payload.shouting()], ids=["spinning", "shouting"])
def test_a_wild_guest_is_still_obedient(make_guest, kernel):
    guest = make_guest(kernel).start()
    guest("pause")
    assert guest("status")["power"] == "paused"
    said = guest("stats")["console_bytes"]
    time.sleep(0.2)
    assert guest("stats")["console_bytes"] == said
    guest("resume")
    guest("power_button")
    guest("reset")
    assert guest("status") == {"power": "running", "problem": "", "curable": False}
    assert guest.quit() == 0


def test_sigterm_ends_a_guest_that_computes(make_guest):
    guest = make_guest(payload.spinning()).start()
    guest.process.terminate()
    assert guest.process.wait(10) == 0


def test_the_guest_does_not_see_that_it_was_paused(make_guest):
    guest = make_guest(payload.greeting()).start()
    guest("pause")
    before = guest("stats")["guest_seconds"]
    time.sleep(0.5)
    began = time.monotonic()
    guest("resume")
    after = guest("stats")["guest_seconds"]
    assert after - before < 0.1 + time.monotonic() - began  # how long it ran, however busy this machine is


def test_events_come_when_the_power_changes(make_guest):
    guest = make_guest(payload.greeting()).start()
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as stream:
        connection.settimeout(10)
        connection.connect(str(guest.home / "c"))
        stream.write('{"execute": "listen"}\n')
        stream.flush()
        assert json.loads(stream.readline())["return"]["power"] == "running"
        guest("pause")
        assert json.loads(stream.readline()) == {"event": "power", "power": "paused", "problem": "", "curable": False}


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        b'{"execute": "snapshot"}\n',
        b'{"execute": "snapshot", "arguments": {"directory": "relative"}}\n',
        b'{"execute": "snapshot", "arguments": []}\n',
        b'{"execute": ["quit"]}\n',
        b"[" * 50_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_nonsense_on_the_control_socket_is_answered_in_words(make_guest, line):
    guest = make_guest(payload.greeting()).start()
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as stream:
        connection.settimeout(10)
        connection.connect(str(guest.home / "c"))
        connection.sendall(line)
        answer = json.loads(stream.readline())
    assert answer["error"]["code"] == "malformed"
    assert answer["error"]["message"]
    assert guest("status")["power"] == "running"


def test_an_endless_line_and_many_connections_cost_nothing_but_themselves(make_guest):
    guest = make_guest(payload.greeting()).start()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(1)
            with contextlib.suppress(OSError):
                connection.connect(str(guest.home / "c"))
        with contextlib.suppress(OSError):
            for _ in range(64):
                connection.sendall(b"x" * 65536)
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError, ValueError):
            assert guest("status")["power"] == "running"
            break
        assert time.monotonic() < deadline
    assert guest.quit() == 0


def test_a_listener_who_does_not_read_does_not_stop_the_guest(make_guest):
    guest = make_guest(payload.shouting()).start()  # its helper has connected to the console, and does not read
    before = guest("stats")["console_bytes"]
    deadline = time.monotonic() + 30
    while guest("stats")["console_bytes"] < before + (600 << 10):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_console_remembers_its_end(make_guest):
    guest = make_guest(payload.greeting()).start()
    guest.wait_for("hello", 20)
    assert guest("console")["end"] == len(payload.GREETING)


def test_a_restore_from_what_is_no_snapshot_is_refused(make_guest, tmp_path):
    guest = make_guest(payload.greeting()).start()
    with pytest.raises(Refusal, match="unusable_snapshot: no snapshot can be read"):
        guest("restore", directory=str(tmp_path))
    (tmp_path / "state.json").write_text(
        json.dumps({"format": 1, "unicorn": "2.0.0", "architecture": os.uname().machine})
    )
    with pytest.raises(Refusal, match="was made by Unicorn 2.0.0"):
        guest("restore", directory=str(tmp_path))
    assert guest("status")["power"] == "running"


def test_what_cannot_be_built_ends_with_a_reason(make_guest, tmp_path):
    for change, words in (
        ({"memory_mib": 63}, "memory from 64 to 1024 MiB"),
        ({"disks": [{"path": str(tmp_path / "none"), "format": "raw"}]}, "No such file"),
        ({"disks": [{"path": "/dev/null", "format": "vmdk"}]}, "'vmdk'"),
        ({"nics": [{"mac": "01:00:00:00:00:00", "network": "isolated"}]}, "no address for a NIC"),
        ({"nics": [{"mac": "52:54:00:00:00:01", "network": "internet"}]}, "no such network"),
    ):
        guest = make_guest(payload.greeting(), **change)
        with pytest.raises(AssertionError, match=words):
            guest.start()
        assert guest.process.wait(30) == 1


def test_the_process_cannot_run_programs_or_reach_the_network():
    """In a child of its own: the filter cannot be taken off again."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        found = [confinement.forswear()]
        for attempt in (
            lambda: os.execv("/bin/true", ["true"]),
            os.fork,
            lambda: socket.socket(socket.AF_INET),
            lambda: socket.socket(socket.AF_UNIX).connect("/none"),
            lambda: os.kill(os.getpid(), 0),
            lambda: os.setuid(0),
            lambda: os.chmod("/tmp", 0o777),
        ):
            try:
                attempt()
                found.append("allowed")
            except PermissionError:
                found.append("refused")
        thread = threading.Thread(target=found.append, args=("a thread",))
        thread.start()
        thread.join()
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        found = json.loads(stream.read())
    os.waitpid(child, 0)
    assert found == [True, *["refused"] * 7, "a thread"]


def test_the_devicetree_is_one_that_its_compiler_reads():
    tree = devicetree(Contents(128 << 20, 3, "console=ttyS0", bytes(64), (0x8400_0000, 0x8500_0000)))
    assert tree[:4] == fdt.MAGIC.to_bytes(4, "big")
    assert int.from_bytes(tree[4:8], "big") == len(tree)
    for word in (b"ns16550a", b"virtio_mmio@10003000", b"linux,initrd-end", b"microsoft,vmgenid", b"console=ttyS0\0"):
        assert word in tree
    assert b"virtio_mmio@10004000" not in tree


def test_u_boot_reads_a_disk(make_guest, u_boot, tmp_path):
    (tmp_path / "disk").write_bytes(b"sector zero".ljust(512, b"\0") + bytes(1 << 20))
    disk = {"path": str(tmp_path / "disk"), "format": "raw", "serial": "d"}
    guest = make_guest(u_boot, memory_mib=128, disks=[disk]).start()
    guest.wait_for("Working FDT", 60)
    guest.type("\n\nvirtio scan; virtio info", "Capacity: 1.0 MB", 60)
    guest.type("virtio read 0x84000000 0 1; md.b 0x84000000 10", "84000000: 73 65 63 74 6f 72 20 7a", 20)
