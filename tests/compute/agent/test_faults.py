"""Every fault point of the agent: killed there, refused there. Afterwards the next worker makes it right: never two.

The fake hypervisor is enough for what `agent/orders.py` and `machine.py` do; starting a real emulator has points of its
own, and they are reached with a real QEMU.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import faults
from tests.agent.looker import Looker
from tests.compute.agent.virtual import QemuNode
from tests.fakes import FakeHypervisor
from tests.hosts import Spec, make_spec

# Kinds that have loops of their own, if they are imported.
OTHERS = (
    *("layers.", "volume.", "import.", "image.", "capture.", "backup.", "restore.", "drill.", "network."),
    *("transfer.", "merge.", "freeze.", "fences.", "rbd.", "serving."),
)
OF_OTHERS = {name for name in faults.POINTS if name.startswith(OTHERS)}
OF_REAL_STARTS = {name for name in faults.POINTS if name.startswith(("spawn.", "disk.", "cache."))}

VOLUME = {
    "id": "1f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01", "slot": 1, "serial": "1f1c1d6e4c0e4b439d53", "read_only": False,
    "boot": False, "size_bytes": 1 << 20, "chain": ["2f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01"], "base_image": None,
    "limits": None,
}  # fmt: skip

ARRIVAL = "3f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01"  # a transfer that has brought a file of the machine

CD_CONTENT = b"an ISO"
CD = {
    "role": "cdrom", "sha256": hashlib.sha256(CD_CONTENT).hexdigest(), "size": len(CD_CONTENT), "format": "raw",
}  # fmt: skip
IMAGE = make_spec()["image"]

LIFE = (
    ("ensure_stopped", {"arrival": ARRIVAL}, "stopped"),
    ("ensure_running", {}, "running"),
    ("ensure_running", {"volumes": [VOLUME], "image": {**IMAGE, "files": [CD]}}, "running"),
    ("ensure_running", {"reboot": {"nonce": "a", "hard": False}}, "running"),
    ("ensure_running", {"snapshot": "6f1c1d6e-4c0e-4b43-9d53-2f6f0c1b9a01"}, "running"),
    ("ensure_paused", {}, "paused"),
    ("ensure_running", {}, "running"),
    ("ensure_suspended", {}, "suspended"),
    ("ensure_running", {}, "running"),
    ("ensure_stopped", {"disk_gib": 2}, "stopped"),
    ("ensure_running", {}, "running"),
    ("interrupt", {}, "running"),
    ("ensure_gone", {}, "gone"),
)


@pytest.fixture(scope="module")
def looker() -> Iterator[Looker]:
    process = Looker("tests.fakes:RemoteNode")
    yield process
    process.close()


@pytest.fixture(scope="module")
def real_looker() -> Iterator[Looker]:
    process = Looker("tests.compute.agent.virtual:QemuNode")
    yield process
    process.close()


def reached(trace: Path) -> set[str]:
    return set(trace.read_text().split()) if trace.exists() else set()


@pytest.mark.parametrize("point", sorted(faults.POINTS - OF_REAL_STARTS - OF_OTHERS))
@pytest.mark.parametrize("how", ["kill", "refuse"])
def test_a_machine_survives_every_fault_point(how, point, looker: Looker, control_plane, tmp_path: Path):
    spec = make_spec(cd_drive=True)
    trace = tmp_path / "trace"
    struck = False

    hypervisor = FakeHypervisor(tmp_path / "fake")
    layers = tmp_path / "agent" / "volumes"
    layers.mkdir(parents=True)
    (layers / f"{VOLUME['chain'][0]}.raw").write_bytes(bytes(1 << 20))
    brought = tmp_path / "agent" / "transfers" / ARRIVAL
    brought.mkdir(parents=True)
    (tmp_path / "agent" / "images").mkdir()
    (tmp_path / "agent" / "images" / CD["sha256"]).write_bytes(CD_CONTENT)
    (brought / f"instance.{spec['id']}.uefi-variables.raw").write_bytes(b"of UEFI")

    def look(fault: str = "", verb: str = "look") -> int:
        return looker.look(control_plane.url, tmp_path, fault, trace, verb)

    for generation, (verb, changes, expected) in enumerate(LIFE, start=1):
        wish = {**spec, **changes}
        fault = f"{how}:{point}"
        if verb == "interrupt":
            look(fault, verb)
        else:
            control_plane.order(verb, wish, 10 * generation)
        look(fault)
        struck = struck or point in reached(trace)
        control_plane.leased.clear()  # as for a worker of a new incarnation
        assert look() == 0
        if how == "refuse" and control_plane.seen(spec["id"])[-1] != expected:  # the control plane tries again
            control_plane.order("ensure_running" if verb == "interrupt" else verb, wish, 10 * generation + 1)
            assert look() == 0
        assert control_plane.seen(spec["id"])[-1] == expected
        if expected == "running" and how == "kill":
            assert set(hypervisor.disks(spec["id"])) == ({0, 1} if "volumes" in changes else {0})
            assert hypervisor.cd(spec["id"]) == (f"cd-{CD['sha256'][:20]}" if "image" in changes else "")
        assert hypervisor.running() == ({spec["id"]} if expected in ("running", "paused") else set())
        assert spec["id"] not in control_plane.orders
    if how == "kill":  # a refused start is undone, and counts again
        assert hypervisor.starts(spec["id"]) in (3, 4)  # 3: it was killed before it was interrupted
    assert struck, f"no run reached {point}"
    assert not (tmp_path / "agent/machines" / spec["id"]).exists()


@pytest.mark.vm
@pytest.mark.parametrize("point", sorted(OF_REAL_STARTS))
@pytest.mark.parametrize("how", ["kill", "refuse"])
def test_a_real_start_survives_every_fault_point(how, point, real_looker, control_plane, open_home, kernel_spec: Spec):
    trace = open_home / "trace"
    machine_id = kernel_spec["id"]

    def look(fault: str = "") -> int:
        return real_looker.look(control_plane.url, open_home, fault, trace)

    control_plane.order("ensure_running", kernel_spec, 1)
    look(f"{how}:{point}")
    assert point in reached(trace), f"no run reached {point}"
    control_plane.leased.clear()
    look()
    if control_plane.seen(machine_id)[-1] != "running":  # broken, or an emulator that was left before its guest began
        control_plane.order("ensure_running", kernel_spec, 2)
        assert look() == 0
    node = QemuNode(control_plane.url, open_home)
    try:
        assert control_plane.seen(machine_id)[-1] == "running", control_plane.reports
        assert len(node.emulators(machine_id)) == 1
    finally:
        control_plane.order("ensure_gone", {"id": machine_id}, 9)
        node.look_once()
    assert node.emulators(machine_id) == []
    assert not node.machine(machine_id).home.directory.exists()
