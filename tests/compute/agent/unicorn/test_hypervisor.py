"""Machines of the embedded emulator through the agent: ordered, adopted, crashed, like those of any hypervisor."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.errors import NoAnswer
from agent.jail import Jail
from agent.paths import Paths
from compute.agent import disks, nics
from compute.agent.homes import Home
from compute.agent.hypervisors.base import Boot
from compute.agent.hypervisors.unicorn import Unicorn, control
from compute.agent.hypervisors.unicorn.description import describe
from tests.agent.stand_in import ControlPlaneStandIn
from tests.compute.agent.unicorn import payload
from tests.compute.agent.unicorn.guest import BOARD
from tests.compute.agent.virtual import QemuNode, put_image_file
from tests.hosts import make_spec

Spec = dict[str, Any]


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILEUS_UNICORN", "1")


@pytest.fixture
def node(control_plane: ControlPlaneStandIn, open_home: Path) -> Iterator[QemuNode]:
    """A node with the real emulators; no machine of it outlives the test."""
    node = QemuNode(control_plane.url, open_home)
    yield node
    for entry in node.ledger.entries():
        control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1)
    node.look_once()


@pytest.fixture
def spec(control_plane: ControlPlaneStandIn, tmp_path: Path) -> Spec:
    file = put_image_file(control_plane, tmp_path, "kernel", payload.greeting())
    return riscv_spec(files=[file])


def riscv_spec(files: list[dict[str, Any]], command_line: str = "", **changes: Any) -> Spec:
    image = {"id": "1", "name": "i", "architecture": "riscv64", "files": files, "kernel_command_line": command_line}
    return make_spec(**{"hypervisor": "unicorn", "architecture": "riscv64", "image": image} | changes)


@pytest.fixture
def obey(node: QemuNode, control_plane: ControlPlaneStandIn) -> Callable[..., dict[str, Any]]:
    def give(verb: str, spec: Spec, generation: int = 1) -> dict[str, Any]:
        control_plane.order(verb, spec, generation)
        node.look_once()
        return control_plane.last(spec["id"])

    return give


def emulator(node: QemuNode, spec: Spec) -> psutil.Process:
    process = node.machine(spec["id"]).hypervisor(node.entry(spec["id"])).find(node.machine(spec["id"]).home)
    return psutil.Process(process.pid)


def has_ended(process: psutil.Process) -> bool:
    """With all of its threads, as the agent sees it."""
    return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)


def wait_for_console(node: QemuNode, spec: Spec, text: bytes, seconds: float = 120, count: int = 1) -> bytes:
    home, deadline = node.machine(spec["id"]).home, time.monotonic() + seconds
    log = home.console_log
    while log.read_bytes().count(text) < count:
        assert time.monotonic() < deadline, f"{state(home)}\n{log.read_bytes().decode(errors='replace')}"
        time.sleep(0.02)
    return log.read_bytes()


def state(home: Home) -> str:
    """What the emulator of a silent guest says of itself."""
    try:
        with control.connect(home) as connection:
            return f"{connection.status()} {connection.execute('stats')}"
    except NoAnswer as problem:
        return f"{problem}; {home.emulator_log.read_text()[-2000:]}"


def test_a_host_says_what_the_embedded_emulator_is_and_is_not(node):
    said = node.capabilities()["hypervisors"]["unicorn"]
    assert said["architectures"]["riscv64"]["accelerator"] == "tcg"
    assert said["version"] == "2.1.4"
    assert (said["vcpus"], said["memory_mib"]) == (1, [64, 1024])
    assert (said["graphics"], said["security_boundary"]) == (False, False)


def test_it_is_not_offered_where_nobody_has_allowed_it(monkeypatch, tmp_path):
    monkeypatch.delenv("PILEUS_UNICORN")
    monkeypatch.delenv("PILEUS_EMBEDDED", raising=False)
    assert Unicorn(Paths(tmp_path, tmp_path), Jail()).probe() is None


def test_a_machine_runs_stops_and_goes(node, obey, spec):
    report = obey("ensure_running", spec, 1)
    assert (report["seen"], report["facts"].get("accelerator")) == ("running", "tcg"), report
    wait_for_console(node, spec, payload.GREETING)
    process = emulator(node, spec)
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert obey("ensure_stopped", {**spec, "stop": {"force": True}}, 2)["seen"] == "stopped"
    assert has_ended(process)
    report = obey("ensure_running", spec, 3)
    assert report["seen"] == "running", report
    assert obey("ensure_gone", spec, 4)["seen"] == "gone"
    assert not node.machine(spec["id"]).home.directory.exists()


def test_a_machine_outlives_its_worker_and_is_adopted(node, obey, spec, control_plane, open_home):
    obey("ensure_running", spec, 1)
    process = emulator(node, spec)
    again = QemuNode(control_plane.url, open_home)
    again.look_once()
    control_plane.order("ensure_running", spec, 2)
    again.look_once()
    assert control_plane.last(spec["id"])["seen"] == "running"
    assert emulator(again, spec) == process
    obey("ensure_gone", spec, 3)


def test_an_emulator_that_is_killed_is_a_crash(node, obey, spec, control_plane):
    obey("ensure_running", spec, 1)
    process = emulator(node, spec)
    process.kill()
    while not has_ended(process):
        time.sleep(0.01)
    node.look_once()
    report = control_plane.last(spec["id"])
    assert (report["seen"], report["facts"]["cause"]) == ("stopped", "crash")
    obey("ensure_gone", spec, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vcpus": 2}, "has one vCPU, not 2"),
        ({"memory_mib": 32}, "has 64 to 1024 MiB of memory, not 32"),
        ({"architecture": "x86_64"}, "runs riscv64 only, not x86_64"),
    ],
)
def test_what_it_cannot_do_is_refused_in_words(obey, spec, change, words):
    report = obey("ensure_running", {**spec, **change}, 1)
    assert report["seen"] == "broken"
    assert words in report["facts"]["problem"]


def test_a_kernel_that_does_not_fit_is_refused_in_words(obey, control_plane, tmp_path):
    file = put_image_file(control_plane, tmp_path, "kernel", bytes(70 << 20))
    report = obey("ensure_running", riscv_spec(files=[file], memory_mib=64), 1)
    assert report["seen"] == "broken"
    assert "do not fit into 64 MiB" in report["facts"]["problem"]


def test_the_description_is_what_it_was(spec):
    spec = {**spec, "id": "00000000-0000-4000-8000-000000000001"}
    spec["image"]["files"] = [{"role": "disk", "format": "qcow2"}]
    spec["image"]["kernel_command_line"] = "console=ttyS0 root=/dev/vda"
    files = {"kernel": Path("/i/k"), "initrd": Path("/i/r"), "disk": Path("/i/d")}
    home = Home(Path("/m/1"), Path("/r/1"))
    base, active = disks.of(spec, home, None, lambda file: files["disk"])[0].layers
    root = disks.Disk(0, spec["id"][:20], (replace(base, descriptor=8), replace(active, descriptor=9)))
    assert describe(Boot(spec, home, files, disks=(root,), nics=nics.of(spec)), exact_stops=True) == {
        "memory_mib": 128,
        "kernel": "/i/k",
        "initrds": ["/i/r"],
        "command_line": "console=ttyS0 root=/dev/vda",
        "disks": [
            {
                "descriptor": 9,
                "format": "qcow2",
                "base": {"descriptor": 8, "format": "qcow2", "base": None},
                "read_only": False,
                "serial": "00000000-0000-4000-8",
            },
            {"path": "/m/1/seed.iso", "format": "raw", "read_only": True, "serial": "cidata"},
        ],
        "nics": [{"mac": "52:54:00:86:a4:27", "network": "isolated", "hostname": "web"}],
        "control": "/r/1/control",
        "serial": "/r/1/serial",
        "console_log": "/m/1/console.log",
        "exact_stops": True,
    }


def test_nics_with_ports_are_descriptors(spec):
    files = {"kernel": Path("/i/k"), "disk": Path("/i/d")}
    spec["image"]["files"] = [{"role": "disk", "format": "qcow2"}]
    plugged = (
        nics.Nic("52:54:00:00:00:01", slot=0, port="p", descriptor=7),
        nics.Nic("52:54:00:00:00:02", slot=1, port="q", descriptor=8),
    )
    described = describe(Boot(spec, Home(Path("/m/1"), Path("/r/1")), files, nics=plugged))
    assert described["nics"] == [
        {"mac": "52:54:00:00:00:01", "network": "descriptor", "descriptor": 7},
        {"mac": "52:54:00:00:00:02", "network": "descriptor", "descriptor": 8},
    ]


def test_the_program_imports_nothing_else_of_the_project():
    script = f"""
import sys
sys.path.insert(0, {str(BOARD.parent)!r})
import board.process
ours = [m for m in sys.modules if m.split(".")[0] in ("cloud", "compute", "storage", "network", "images")]
third = {{m.split(".")[0] for m in sys.modules if "site-packages" in (getattr(sys.modules[m], "__file__", "") or "")}}
print(ours, sorted(third - {{"_distutils_hack"}}))  # which comes with the interpreter
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True)
    # Nor unicorn's own binding, which takes 40 ms: only its library, and its table of registers.
    assert done.stdout.strip() == "[] []"


@pytest.mark.vm
@pytest.mark.parametrize("hypervisor", ["unicorn", "qemu"])
def test_a_real_guest_boots_hears_its_button_and_keeps_its_disk(hypervisor, node, obey, control_plane, riscv_linux):
    """The same image under both."""
    described = json.loads((riscv_linux / "image.json").read_text())
    for file in described["files"]:
        control_plane.files[file["sha256"]] = riscv_linux / file["file"]
        assert hashlib.sha256((riscv_linux / file["file"]).read_bytes()).hexdigest() == file["sha256"]
    command_line = described["kernel_command_line"]
    spec = riscv_spec(described["files"], command_line, memory_mib=192, name="web", hypervisor=hypervisor)
    spec["seed"]["user_data"] = "#!/bin/sh\necho kept > /root/kept; echo SAID $(cat /root/kept)\n"
    assert obey("ensure_running", spec, 1)["seen"] == "running"
    assert b"SAID kept" in wait_for_console(node, spec, b"READY web")
    report = obey("ensure_stopped", {**spec, "stop": {"force": False, "grace_seconds": 60}}, 2)
    assert (report["seen"], report["facts"]["cause"]) == ("stopped", "order")
    assert b"Power down" in node.machine(spec["id"]).home.console_log.read_bytes()
    report = obey("ensure_running", spec, 3)
    assert report["seen"] == "running", report
    second = wait_for_console(node, spec, b"READY web", count=2)
    assert second.count(b"new instance") == 1
    process = emulator(node, spec)
    assert obey("ensure_running", {**spec, "reboot": {"nonce": "1", "hard": False}}, 4)["seen"] == "running"
    wait_for_console(node, spec, b"READY web", count=3)
    assert (emulator(node, spec) == process) == (hypervisor == "unicorn")  # QEMU ends at a reboot, and is started again
    assert obey("ensure_gone", spec, 5)["seen"] == "gone"
