"""Real machines: QEMU, the jail, and a guest of a few bytes or a real Linux."""

import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from agent import jail
from agent.errors import NoAnswer
from agent.paths import Paths
from compute.agent.hypervisors.qemu import Qemu, control, groups_to_use
from compute.agent.hypervisors.qemu.command_line import Accelerator
from compute.agent.hypervisors.qemu.payload import TOKEN
from compute.agent.hypervisors.qemu.probe import (
    BINARIES,
    PATIENCE,
    PROCESSOR_SECONDS,
    Finding,
    Probes,
    run_guest,
    version,
)
from compute.agent.machine import GRACE_SECONDS
from compute.agent.samples import Samples
from compute.agent.watch import Watch
from tests.compute.agent.virtual import GREETING, QemuNode
from tests.hosts import make_spec
from tests.images.conftest import tiny_linux  # noqa: F401

pytestmark = pytest.mark.vm

ROOT = os.geteuid() == 0


@pytest.fixture
def host(control_plane, open_home):
    """A node with the real QEMU; no machine of it outlives the test."""
    node = QemuNode(control_plane.url, open_home)
    yield node
    for entry in node.ledger.entries():
        control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1)
    node.look_once()
    assert [entry.id for entry in node.ledger.entries()] == []


@pytest.fixture
def obey_really(host, control_plane):
    def give(verb, spec, generation=1):
        control_plane.order(verb, spec, generation)
        host.look_once()
        return control_plane.last(spec["id"])

    return give


def wait_for(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def wait_for_line(host, spec, line: bytes, times=1):
    """Wait until the guest has said this so many times."""
    try:
        wait_for(lambda: console(host, spec).count(line) >= times)
    except AssertionError as late:
        raise AssertionError(f"no {line!r} for the {times}. time in: {console(host, spec).decode()}") from late


def console(host, spec) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return host.machine(spec["id"]).home.console_log.read_bytes()
    return b""


def boot(host, obey_really, spec, generation=1):
    report = obey_really("ensure_running", spec, generation)
    assert report["seen"] == "running", report
    (process,) = host.emulators(spec["id"])
    return process


def test_a_guest_runs_in_its_jail(host, obey_really, kernel_spec):
    process = boot(host, obey_really, kernel_spec)
    wait_for_line(host, kernel_spec, GREETING)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    assert process.ppid() == 1 or process.ppid() != os.getpid()
    assert os.getsid(process.pid) == process.pid
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["SigIgn"], 16) >> signal.SIGXFSZ - 1 & 1, "a file that is too large is an error, and not its end"
    assert host.record(kernel_spec["id"]).process.file_limit() > kernel_spec["disk_gib"] << 30
    mounts = Path(f"/proc/{process.pid}/mountinfo").read_text()
    for folder in ("/tmp", "/var/tmp", "/dev/shm") if host.tools.jail.temporary else ():
        assert re.search(rf" {folder} \S+ (\S+ )*- tmpfs none rw,size=16384k", mounts), folder
    if ROOT:
        uid = str(host.record(kernel_spec["id"]).uid)
        assert status["Uid"].split() == [uid] * 4
        assert status["Gid"].split() == [uid] * 4
        assert {int(status[name], 16) for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
        home = host.machine(kernel_spec["id"]).home
        assert str(home.disk.stat().st_uid) == uid
        assert home.disk.stat().st_mode & 0o777 == 0o600
        assert home.directory.stat().st_uid == 0
        assert (home.runtime.stat().st_uid, home.runtime.stat().st_mode & 0o777) == (0, 0o710)
    if host.tools.jail.cgroup:
        assert kernel_spec["id"] in Path(f"/proc/{process.pid}/cgroup").read_text()


def test_machines_have_users_of_their_own(host, obey_really, kernel_spec):
    if not host.tools.jail.uid:
        pytest.skip("no users of their own here")
    other = {**kernel_spec, "id": make_spec()["id"]}
    uids = {boot(host, obey_really, spec).uids().real for spec in (kernel_spec, other)}
    assert len(uids) == 2
    assert 0 not in uids


def test_cgroup_limits_are_set(host, obey_really, kernel_spec):
    if not host.tools.jail.cgroup:
        pytest.skip("no writable cgroups here")
    boot(host, obey_really, kernel_spec)
    paths = jail.cgroup_paths(host.tools.jail.cgroup, kernel_spec["id"])
    name = "memory.max" if host.tools.jail.cgroup == "v2" else "memory.limit_in_bytes"
    limit = int((paths[0] / name).read_text()) >> 20
    assert kernel_spec["memory_mib"] < limit <= kernel_spec["memory_mib"] + 1024
    obey_really("ensure_gone", {"id": kernel_spec["id"]}, 2)
    wait_for(lambda: host.notice_all(thoroughly=True) or not any(path.exists() for path in paths), 20)


def test_a_killed_emulator_is_a_crash_with_its_reason_at_once(host, obey_really, kernel_spec, control_plane):
    process = boot(host, obey_really, kernel_spec)
    watch = Watch(host, host.machines)
    watch.start()
    wait_for(lambda: kernel_spec["id"] in watch._watched)
    host.changed.clear()
    os.kill(process.pid, signal.SIGKILL)
    wait_for(host.changed.is_set, 10)  # nobody else looks
    host.send_reports()
    host.stop()
    report = control_plane.last(kernel_spec["id"])
    assert (report["seen"], report["facts"]["cause"]) == ("stopped", "crash")
    assert "the emulator" in report["facts"]["problem"]
    assert "unexpectedly" in report["facts"]["problem"]


def test_an_emulator_killed_while_nobody_looked_is_a_crash_too(
    host, obey_really, kernel_spec, control_plane, open_home
):
    process = boot(host, obey_really, kernel_spec)
    host.ledger.close()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    host.__init__(control_plane.url, open_home)
    host.look_once()
    assert control_plane.last(kernel_spec["id"])["facts"]["cause"] == "crash"


def test_the_next_worker_adopts_the_machine_with_the_same_pid(host, obey_really, kernel_spec, control_plane, open_home):
    process = boot(host, obey_really, kernel_spec)
    after = QemuNode(control_plane.url, open_home)
    control_plane.order("ensure_running", kernel_spec, 2)
    after.look_once()
    assert [found.pid for found in after.emulators(kernel_spec["id"])] == [process.pid]
    assert after.record(kernel_spec["id"]).process.pid == process.pid


def test_a_ledger_that_knows_no_pid_finds_the_machine_all_the_same(host, obey_really, kernel_spec):
    process = boot(host, obey_really, kernel_spec)
    host.ledger._connection.execute("UPDATE machine SET pid = NULL, started = NULL")
    assert obey_really("ensure_running", kernel_spec, 2)["seen"] == "running"
    assert [found.pid for found in host.emulators(kernel_spec["id"])] == [process.pid]


def test_a_second_start_is_impossible_even_with_a_wrong_pid_file(host, obey_really, kernel_spec, monkeypatch):
    process = boot(host, obey_really, kernel_spec)
    monkeypatch.setattr("agent.emulators.MAX_SECONDS_TO_WRITE_PID", 0.2)
    home = host.machine(kernel_spec["id"]).home
    right = home.pid.read_text()
    home.pid.write_text("1 1")
    report = obey_really("ensure_running", kernel_spec, 2)
    assert report["seen"] == "broken"
    assert [found.pid for found in host.emulators(kernel_spec["id"])] == [process.pid]
    home.pid.write_text(right)


def test_an_emulator_that_refuses_says_why(host, obey_really, kernel_spec):
    report = obey_really("ensure_running", {**kernel_spec, "memory_mib": 1 << 40}, 1)
    assert report["seen"] == "broken"
    assert "emulator did not start" in report["facts"]["problem"]
    assert host.emulators(kernel_spec["id"]) == []
    assert boot(host, obey_really, kernel_spec, 2)


def test_a_guest_that_ignores_its_button_is_stopped_after_the_grace(host, obey_really, kernel_spec):
    boot(host, obey_really, kernel_spec)
    began = time.monotonic()
    wish = {**kernel_spec, "stop": {"force": False, "grace_seconds": 1}}
    assert obey_really("ensure_stopped", wish, 2)["seen"] == "stopped"
    assert time.monotonic() - began < GRACE_SECONDS
    assert host.emulators(kernel_spec["id"]) == []


def test_an_emulator_that_hangs_is_killed(host, obey_really, kernel_spec, monkeypatch):
    process = boot(host, obey_really, kernel_spec)
    monkeypatch.setattr(control, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr("compute.agent.machine.MAX_SECONDS_TO_QUIT", 0.5)
    os.kill(process.pid, signal.SIGSTOP)
    assert obey_really("ensure_running", kernel_spec, 2)["seen"] == "broken"
    assert obey_really("ensure_stopped", {**kernel_spec, "stop": {"force": True}}, 3)["seen"] == "stopped"
    assert host.emulators(kernel_spec["id"]) == []


def test_a_hard_reboot_keeps_the_process(host, obey_really, kernel_spec):
    process = boot(host, obey_really, kernel_spec)
    wait_for_line(host, kernel_spec, GREETING)
    obey_really("ensure_running", {**kernel_spec, "reboot": {"nonce": "a", "hard": True}}, 2)
    wait_for_line(host, kernel_spec, GREETING, 2)
    assert [found.pid for found in host.emulators(kernel_spec["id"])] == [process.pid]


def test_the_log_goes_on_over_a_restart_and_the_serial_line_can_be_read(host, obey_really, kernel_spec):
    boot(host, obey_really, kernel_spec)
    wait_for_line(host, kernel_spec, GREETING)
    obey_really("ensure_stopped", {**kernel_spec, "stop": {"force": True}}, 2)
    boot(host, obey_really, kernel_spec, 3)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(host.machine(kernel_spec["id"]).home.serial_socket))
    wait_for_line(host, kernel_spec, GREETING, 2)


def test_an_unowned_machine_is_paused_and_can_be_released(host, obey_really, kernel_spec):
    boot(host, obey_really, kernel_spec)
    machine = host.machine(kernel_spec["id"])
    host.set_quarantined(machine.key)
    with control.connect(machine.home) as connection:
        assert connection.status().power == "paused"
    host.set_quarantined(machine.key, quarantined=False)
    with control.connect(machine.home) as connection:
        assert connection.status().power == "running"


def test_a_full_host_refuses_new_work_with_the_reason(host, obey_really, kernel_spec, monkeypatch):
    monkeypatch.setattr("compute.agent.disks.MIN_FREE_BYTES", 1 << 60)
    report = obey_really("ensure_running", kernel_spec, 1)
    assert report["seen"] == "broken"
    assert "disk is full" in report["facts"]["problem"]


def test_there_is_no_answer_from_a_machine_that_is_not_there(host, kernel_spec):
    with pytest.raises(NoAnswer), control.connect(host.machine(kernel_spec["id"]).home):
        pass


@pytest.mark.parametrize("architecture", BINARIES)
def test_the_probe_runs_a_guest(architecture, tmp_path):
    qemu_version = version(BINARIES[architecture])
    if qemu_version is None:
        pytest.skip(f"{BINARIES[architecture]} is not installed")
    accelerator = Accelerator("tcg", BINARIES[architecture])
    jailed = jail.probe(Paths(tmp_path / "agent", tmp_path / "run")).confine(jail.first_uid())
    assert run_guest(architecture, accelerator, jailed).problem is None
    probes = Probes(tmp_path / "probes.json")
    finding = probes.find(architecture, accelerator, qemu_version, jailed)
    assert Probes(tmp_path / "probes.json").known(architecture, "tcg", qemu_version, jailed).problem == finding.problem
    assert probes.known(architecture, "tcg", "another version", jailed) is None
    assert probes.known(architecture, "tcg", qemu_version, jail.Confinement(groups=(4,))) is None


def test_a_failure_is_looked_at_again_after_an_hour_as_the_host_may_have_been_busy(tmp_path, monkeypatch):
    accelerator, confinement = Accelerator("tcg", "qemu"), jail.Confinement()
    findings = iter([Finding("a guest hung for 10 s", 10.0), Finding(None, 0.2)])
    monkeypatch.setattr("compute.agent.hypervisors.qemu.probe.run_guest", lambda *_: next(findings))
    probes = Probes(tmp_path / "probes.json")
    now = time.time()
    for later, problem in ((0, "a guest hung for 10 s"), (3500, "a guest hung for 10 s"), (3700, None), (10**9, None)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert probes.find("x86_64", accelerator, "7.2", confinement).problem == problem


def test_the_probe_does_not_hang(monkeypatch):
    monkeypatch.setattr("compute.agent.hypervisors.qemu.payload.TOKEN", b"")
    monkeypatch.setitem(PATIENCE, "tcg", 0.01)
    finding = run_guest("x86_64", Accelerator("tcg", BINARIES["x86_64"]), jail.Confinement())
    assert finding.problem.startswith("a guest hung")


def test_a_guest_that_needs_a_processor_for_long_is_none_that_runs(monkeypatch, tmp_path):
    """So it is on a KVM that is emulated itself: the tiny guest ends at last, and a real one never boots."""
    slow = tmp_path / "qemu"
    slow.write_text(f"#!/bin/sh\ni=0\nwhile [ $i -lt 9000000 ]; do i=$((i + 1)); done\nprintf '{TOKEN.decode()}'\n")
    slow.chmod(0o755)
    monkeypatch.setitem(PROCESSOR_SECONDS, "tcg", 1)
    finding = run_guest("x86_64", Accelerator("tcg", str(slow)), jail.Confinement())
    assert finding.problem.startswith("a guest used up 1 s of a processor")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has users for machines")
def test_kvm_that_machines_users_cannot_open_is_not_used_and_said_to_be_closed(tmp_path, monkeypatch):
    """What root can open is not what an emulator can: each runs as a user of its own."""
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    device = tmp_path / "kvm"
    monkeypatch.setattr("compute.agent.hypervisors.qemu.KVM", device)
    device.touch(mode=0o600)
    qemu = Qemu(paths, jail.Jail(uid=True))
    assert "closed to machines' own users: `chgrp kvm" in qemu.probe()["architectures"]["x86_64"]["kvm"]
    assert (qemu.probe_accelerators(), qemu.groups()) == (False, ())
    for mode, group, groups in ((0o600, 104, None), (0o660, 0, None), (0o660, 104, (104,)), (0o666, 0, ())):
        device.chmod(mode)
        os.chown(device, 0, group)
        assert groups_to_use(device) == groups
    assert "closed" not in qemu.probe()["architectures"]["x86_64"]["kvm"]


@pytest.fixture
def linux_spec(control_plane, tiny_linux):  # noqa: F811
    """A tiny-linux machine."""
    import json

    image = json.loads((tiny_linux / "image.json").read_text())
    files = []
    for file in image["files"]:
        control_plane.files[file["sha256"]] = tiny_linux / file["file"]
        files.append({name: file[name] for name in ("role", "sha256", "size", "format")})
    described = {**image, "id": "1", "files": files}
    return make_spec("tiny", image=described, memory_mib=256)


def test_a_real_linux_boots_reboots_and_switches_itself_off(host, obey_really, linux_spec, control_plane):
    process = boot(host, obey_really, linux_spec)
    wait_for_line(host, linux_spec, b"READY tiny")
    # Soft reboot: the guest shuts down by itself and comes up again in the same emulator.
    report = obey_really("ensure_running", {**linux_spec, "reboot": {"nonce": "a", "hard": False}}, 2)
    assert report["seen"] == "running"
    wait_for_line(host, linux_spec, b"READY tiny", 2)
    assert [found.pid for found in host.emulators(linux_spec["id"])] == [process.pid]
    # A stop is the power button, long before the grace is over.
    began = time.monotonic()
    wish = {**linux_spec, "stop": {"force": False, "grace_seconds": 120}}
    assert obey_really("ensure_stopped", wish, 3)["seen"] == "stopped"
    assert time.monotonic() - began < 100
    # Its disk is the same one afterwards.
    boot(host, obey_really, linux_spec, 4)
    wait_for_line(host, linux_spec, b"READY tiny", 3)
    assert console(host, linux_spec).count(b"new instance") == 1


def test_a_linux_that_switches_itself_off_is_no_crash(host, obey_really, linux_spec, control_plane):
    seed = {**linux_spec["seed"], "user_data": "#!/bin/sh\n(sleep 1; poweroff) > /dev/null 2>&1 &\n"}
    boot(host, obey_really, {**linux_spec, "seed": seed})
    watch = Watch(host, host.machines)
    watch.start()
    wait_for(lambda: host.entry(linux_spec["id"]).seen == "stopped")
    host.stop()
    host.send_reports()
    assert control_plane.last(linux_spec["id"])["facts"]["cause"] == "guest"
    assert host.emulators(linux_spec["id"]) == []


def test_user_mode_networking_reaches_nothing(host, obey_really, linux_spec):
    """The host's loopback least of all: 10.0.2.2 is its name inside QEMU's network."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        script = f"#!/bin/sh\nwget -T 3 -O - http://10.0.2.2:{port}/ && echo REACHED || echo ALONE > /dev/console\n"
        seed = {**linux_spec["seed"], "user_data": script}
        boot(host, obey_really, {**linux_spec, "seed": seed})
        wait_for_line(host, linux_spec, b"READY tiny")
        assert b"ALONE" in console(host, linux_spec)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_what_a_machine_uses_is_measured_from_outside(host, obey_really, control_plane, kernel_spec):
    obey_really("ensure_running", kernel_spec)
    samples = Samples(host.machines, host.ledger, host.control_plane)
    [first] = samples.take()
    assert set(first) == {"id", "memory_mib"}
    assert first["memory_mib"] > 5
    time.sleep(0.5)  # a share is of a time: the kernel counts it in hundredths of a second
    began = time.process_time()
    [second] = samples.take()
    assert time.process_time() - began < 0.05
    assert 0 <= second["cpu_percent"] < 400
    assert second["disk_read_bytes_per_second"] >= 0
    assert second["disk_writes_per_second"] == 0
    assert "network_sent_bytes_per_second" not in second
    samples.tell()
    assert [sample["id"] for sample in control_plane.samples] == [kernel_spec["id"]] * 2
    assert control_plane.samples[0]["age"] > control_plane.samples[1]["age"] >= 0
