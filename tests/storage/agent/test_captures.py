"""Images of layers on this host: everything that they have, and nothing that their headers name."""

import hashlib
import subprocess
import uuid

import pytest

from agent.kinds import Kind
from tests.storage.agent.test_exports import host  # noqa: F401
from tests.storage.agent.test_images import MANY, open_to_all  # noqa: F401

MIB = 1 << 20


@pytest.fixture
def order(host, control_plane):  # noqa: F811
    def make(*layers, base=None, **booted):
        spec = {"id": str(uuid.uuid4()), "image": {}, "limits": {"virtual_bytes": MANY}, "result": {"format": "qcow2"}}
        spec |= {"source": {"kind": "layers", "layers": list(layers), "base": base, **booted}, "declared_format": None}
        control_plane.order("ensure_present", spec, 1, "image")
        host.look_once()
        return control_plane.last(spec["id"]), spec["id"]

    return make


def qemu_io(path, command):
    done = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, str(path)], check=True, capture_output=True, text=True
    )
    assert "verification failed" not in done.stdout
    return done.stdout


def test_an_image_of_layers_has_what_all_of_them_have(host, order, control_plane, tmp_path):  # noqa: F811
    base = tmp_path / "base"
    base.write_bytes(b"\x01" * MIB + bytes(3 * MIB))
    sha256 = hashlib.sha256(base.read_bytes()).hexdigest()
    control_plane.files[sha256] = base
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    layers = host.images.layers
    file = {"sha256": sha256, "size": 4 * MIB, "format": "raw"}
    cached = host.images.cache.directory / sha256
    layers.create(first, 8 * MIB, base=(cached, "raw"))
    layers.create(second, 8 * MIB, parent=first)
    cached.write_bytes(base.read_bytes())
    qemu_io(layers.path(first), f"write -P 2 {MIB} 64k")
    qemu_io(layers.path(second), f"write -P 3 {2 * MIB} 64k")
    qemu_io(layers.path(second), "write -z 0 64k")
    modes = [layers.path(one).stat() for one in (first, second)]
    report, ident = order(first, second, base=file)
    assert report["seen"] == "present", report["facts"]
    made = tmp_path / "made"
    made.write_bytes(control_plane.imported[ident, 0])
    for pattern, at in ((0, "0"), (1, "64k"), (2, str(MIB)), (3, str(2 * MIB)), (0, str(5 * MIB))):
        qemu_io(made, f"read -P {pattern} {at} 64k")
    assert report["facts"]["found"]["virtual_bytes"] == 8 * MIB
    assert b"backing" not in subprocess.run(["qemu-img", "info", str(made)], check=True, capture_output=True).stdout
    after = [layers.path(one).stat() for one in (first, second)]
    assert [(one.st_mode, one.st_gid) for one in after] == [(one.st_mode, one.st_gid) for one in modes]


def test_an_image_of_layers_has_what_uefi_keeps_for_what_boots_from_them(host, order, control_plane):  # noqa: F811
    kept = {}

    class Machines(Kind):
        type, suffices, verbs = "instance", False, {}  # noqa: RUF012
        copy_disk = None

        def read_uefi(self, machine):
            return kept.get(machine)

    host.tools.add(Machines())
    layer, machine = str(uuid.uuid4()), str(uuid.uuid4())
    host.images.layers.create(layer, MIB)
    report, _ = order(layer, type="instance", machine=machine)
    assert [file["role"] for file in report["facts"]["files"]] == ["disk"]
    kept[machine] = b"entries"
    report, ident = order(layer, type="instance", machine=machine)
    assert [file["role"] for file in report["facts"]["files"]] == ["disk", "uefi-variables"]
    assert control_plane.imported[ident, 1] == b"entries"


def test_what_a_header_names_is_not_followed(host, order, control_plane, tmp_path):  # noqa: F811
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x07" * MIB)
    layer = str(uuid.uuid4())
    path = host.images.layers.path(layer)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", path, "1M"], check=True)
    report, ident = order(layer)
    assert report["seen"] == "present", report["facts"]
    made = tmp_path / "made"
    made.write_bytes(control_plane.imported[ident, 0])
    qemu_io(made, "read -P 0 0 64k")


def test_a_layer_that_is_gone_is_said(order):
    report, _ = order(str(uuid.uuid4()))
    assert report["seen"] == "broken"
    assert "not on its host any more" in report["facts"]["problem"]
    assert report["facts"]["final"]
