"""`./pileus up` as an ordinary user where there is no QEMU: a real Linux under the embedded emulator, all the same."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from compute.ssh import fingerprint
from images import build
from tests.clouds import wait_until
from tests.end_to_end.machines import BareMachine

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide QEMU from an ordinary user"),
]


@pytest.fixture
def bare(riscv_linux):
    """Goes with everything in it."""
    folder = Path(tempfile.mkdtemp(prefix="pb-"))
    folder.chmod(0o755)
    machine = BareMachine(folder, build.default_cache())
    yield machine
    machine.pileus("down", check=False)
    left = machine.processes()
    shutil.rmtree(folder, ignore_errors=True)
    assert left == []


def host_key(api, name):
    """The SSH host key of a guest that says that it is up, under its own name."""

    def said():
        log = api.get(f"/projects/demo/instances/{name}/console-log", params={"lines": 500})
        return re.search(rf"SSH host key (\S+).*READY {name} ", "\n".join(log.json().get("lines", [])), re.DOTALL)

    return wait_until(said, 60, what=f"{name} is up").group(1)


def own_addresses(api, name):
    """Those that the cloud gave it, where ordinary users can have networks, and which it has taken."""
    found = [each["address"] for each in api.get(f"/projects/demo/instances/{name}").json()["addresses"]]
    lines = api.get(f"/projects/demo/instances/{name}/console-log", params={"lines": 500}).json()["lines"]
    assert [address for address in found if f"has the address {address}/" not in "\n".join(lines)] == []
    return found


def test_up_ends_with_a_guest_under_the_embedded_emulator(bare):
    out = bare.pileus("up").stdout
    assert "missing" in out
    assert "no machines under QEMU" in out
    assert f"{bare.credentials['demo']['username']} / {bare.credentials['demo']['password']}" in out
    assert f"http://127.0.0.1:{bare.port}" in out
    first = bare.first()
    assert (first["status"], first["hypervisor"], first["image"]["name"]) == (
        "running",
        "unicorn",
        "tiny-linux-riscv64",
    )
    assert len(bare.boots()) == 1
    assert len(bare.emulators()) == 1
    with bare.api() as api:
        wish = {"name": "second", "flavor": "tiny", "image": "tiny-linux-riscv64"}
        refused = api.post("/projects/demo/instances", json=wish | {"hypervisor": "qemu"})
        assert (refused.status_code, refused.json()["code"]) == (409, "no_capacity")
        assert "cannot run qemu/riscv64" in refused.json()["detail"]
        assert api.post("/projects/demo/instances/first/clone", json={"name": "copy", "count": 2}).status_code == 202
        keys = {name: host_key(api, name) for name in ("first", "copy-1", "copy-2")}
        assert len(set(keys.values())) == 3
        taken = [address for name in keys for address in own_addresses(api, name)]
        assert len(taken) == len(set(taken))
        for name, key in keys.items():
            known = api.get(f"/projects/demo/instances/{name}").json()["ssh_host_key"]
            assert fingerprint(known) == key
        for name in ("first", "copy-1", "copy-2"):
            assert api.delete(f"/projects/demo/instances/{name}?purge=true").status_code == 202
        wait_until(lambda: api.get("/projects/demo/instances").json()["items"] == [], 60)
    bare.pileus("verify")
    assert not bare.emulators()
