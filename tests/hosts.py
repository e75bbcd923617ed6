"""Orders and specs for tests of hosts, a fake node, and a control plane in the same process."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.stand_in import ControlPlaneStandIn
from tests.compute.agent.virtual import put_image_file, waiting_kernel
from tests.fakes import FakeNode

Spec = dict[str, Any]


def make_spec(name: str = "web", **changes: Any) -> Spec:
    """An order's spec for an instance, as the control plane renders it."""
    machine_id = changes.pop("id", None) or str(uuid.uuid4())
    return {
        "id": machine_id,
        "name": name,
        "project": {"id": "7d2b6a1e-0000-4000-8000-000000000001", "name": "demo"},
        "hypervisor": "qemu",
        "architecture": "x86_64",
        "vcpus": 1,
        "memory_mib": 128,
        "disk_gib": 1,
        "reboot": None,
        "stop": {"force": False, "grace_seconds": 30},
        "restart_policy": "on_crash",
        "image": {"id": "1", "name": "none", "architecture": "x86_64", "files": [], "kernel_command_line": ""},
        "seed": {"instance_id": machine_id, "hostname": name, "ssh_authorized_keys": [], "user_data": ""},
        "nics": [],
        **changes,
    }


@pytest.fixture
def spec() -> Spec:
    return make_spec()


@pytest.fixture
def control_plane() -> Iterator[ControlPlaneStandIn]:
    stand_in = ControlPlaneStandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def node(control_plane: ControlPlaneStandIn, tmp_path: Path) -> FakeNode:
    """A node with the fake hypervisor, which talks to the stand-in without a network."""

    def request(method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
        return control_plane.answer(method, path, body)

    return FakeNode(request, tmp_path)


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A short directory that unprivileged users may pass through, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="pa-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def obey(node: FakeNode, control_plane: ControlPlaneStandIn) -> Callable[..., dict[str, Any]]:
    """Give an order, let the node look, and return the last report about that machine."""

    def give(verb: str, spec: Spec, generation: int = 1) -> dict[str, Any]:
        control_plane.order(verb, spec, generation)
        node.look()
        return control_plane.last(spec["id"])

    return give


@pytest.fixture
def kernel_spec(control_plane: ControlPlaneStandIn, tmp_path: Path) -> Spec:
    """A machine whose whole guest is one tiny kernel that greets and waits."""
    file = put_image_file(control_plane, tmp_path, "kernel", waiting_kernel())
    image = {"id": "1", "name": "waiting", "architecture": "x86_64", "files": [file], "kernel_command_line": ""}
    return make_spec("small", image=image)


os.environ.pop("PILEUS_FAULT", None)
