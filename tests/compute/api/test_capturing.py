"""Images of instances, by the API: which can be made, what they take over, and what becomes of them."""

import pytest

from cloud.hosts.models import Allocation
from cloud.operations.models import Operation
from compute.models import Instance
from storage.models import Image, ImageExport, ImageImport, Layer, Snapshot, Volume
from storage.services import attaching
from storage.store import store
from tests import factories
from tests.storage.api.test_images import node, settle, stored  # noqa: F401
from tests.storage.clouds import do
from tests.storage.node import CAPABILITIES

pytestmark = pytest.mark.django_db(transaction=True)
P = "projects/demo"
KERNEL = {"role": "kernel", "sha256": "b" * 64, "size": 1, "format": None}
DISK = {"role": "disk", "sha256": "c" * 64, "size": 1, "format": "qcow2"}


@pytest.fixture
def project(db):
    return factories.project("demo")


@pytest.fixture
def mia(api, project):
    return api.as_(factories.member(project))


@pytest.fixture
def web(project, node):  # noqa: F811
    """A stopped instance on a host that makes images."""
    image = factories.image("base", files=[KERNEL, DISK], default_user="debian", os="linux")
    made = Instance.objects.create(
        project=project, name="web", flavor=factories.flavor(), vcpus=1, memory_mib=256, disk_gib=5, image=image,
        boot_files=image.files, kernel_command_line="quiet", created_by="mia", wanted_power="stopped",
        hardware={"firmware": "", "machine_type": "", "disk_bus": "", "nic_bus": "e1000"},
    )  # fmt: skip
    return factories.place(made, node.host, seen="stopped")


def capture(client, **more):
    return client.post(f"{P}/instances/web/create-image", {"name": "golden", **more})


def test_an_image_of_an_instance_can_be_launched(mia, node, web):  # noqa: F811
    made = capture(mia, version="1", description="as it was")
    assert (made.status_code, made.data["status"]) == (202, "importing")
    assert made.data["operation"]["kind"] == "storage.import"
    assert Allocation.objects.get(resource_type="image").disk_gib == 5
    settle(node)
    image = mia.get(f"{P}/images/golden").data
    assert (image["status"], image["version"], image["description"]) == ("ready", "1", "as it was")
    assert (image["default_user"], image["nic_bus"], image["source"]["name"]) == ("debian", "e1000", "web")
    assert [file["role"] for file in image["files"]] == ["kernel", "disk"]
    assert Image.objects.get(name="golden").kernel_command_line == "quiet"
    [spec] = node.specs.values()
    assert spec["source"] == {"kind": "machine", "type": "instance", "machine": str(web.pk)}
    assert not ImageImport.objects.exists()
    assert not Allocation.objects.filter(resource_type="image").exists()


def test_what_uefi_keeps_goes_with_the_image_and_with_its_ova(mia, node, web):  # noqa: F811
    """A system is started by an entry there, and may have no other way."""
    old = {"role": "uefi-variables", "sha256": "d" * 64, "size": 4, "format": "raw"}
    Instance.objects.update(boot_files=[DISK, old], hardware={**web.hardware, "firmware": "uefi"})
    node.uefi = b"entries"
    capture(mia)
    settle(node)
    image = Image.objects.get(name="golden")
    assert [file["role"] for file in image.files] == ["disk", "uefi-variables"]
    assert store().open(image.files[1]["sha256"]).read() == b"entries"
    assert image.boot_files == image.files  # which every launch takes
    for format_, files in (("ova", image.files), ("qcow2", image.disks)):
        assert mia.post(f"{P}/images/golden/export", {"format": format_}).status_code == 202
        assert ImageExport.objects.get(format=format_).sources == files
    settle(node)
    node.uefi = b""  # an agent of before says nothing of it
    capture(mia, version="2")
    settle(node)
    assert Image.objects.get(version="2").files[0] == old


def test_it_fails_with_the_words_of_its_host_and_is_not_tried_elsewhere(mia, node, web):  # noqa: F811
    node.broken = "the machine is not on this host any more"
    capture(mia)
    settle(node)
    image = mia.get(f"{P}/images/golden").data
    assert (image["status"], image["status_reason"]) == ("failed", node.broken)
    assert not ImageImport.objects.exists()
    assert mia.delete(f"{P}/images/golden").status_code == 202
    settle(node)
    assert not Image.objects.filter(name="golden").exists()


def test_it_can_be_cancelled(mia, node, web):  # noqa: F811
    node.online = False
    operation = capture(mia).data["operation"]["id"]
    settle(node)
    assert mia.post(f"{P}/operations/{operation}/cancel").status_code in (200, 202)
    node.online = True
    settle(node)
    assert "cancelled" in mia.get(f"{P}/images/golden").data["status_reason"]
    assert not ImageImport.objects.exists()


def test_why_none_can_be_made(mia, node, web):  # noqa: F811
    def refusal():
        answer = capture(mia)
        assert answer.status_code == 409, answer.data
        return answer.data["detail"]

    web.machine.seen = "running"
    web.machine.save()
    Instance.objects.update(wanted_power="running")
    assert "copies no disk meanwhile. Stop it first." in refusal()
    node.host.capabilities = {}
    node.host.save()
    assert "qemu-img is not installed there" in refusal()
    Instance.objects.update(machine=None)
    assert "has not been started" in refusal()
    assert not Image.objects.filter(name="golden").exists()


def test_nothing_is_made_where_it_has_no_room(mia, node, web):  # noqa: F811
    Allocation.objects.create(resource_type="thing", resource_id=web.pk, host=node.host, disk_gib=98)
    refused = capture(mia)
    assert (refused.status_code, refused.data["code"]) == (409, "no_capacity")
    assert not Image.objects.filter(name="golden").exists()
    assert not Operation.objects.exists()


def test_a_taken_name_is_said(mia, node, web):  # noqa: F811
    assert capture(mia).status_code == 202
    assert capture(mia).status_code == 409


def test_an_image_of_a_snapshot(mia, node):  # noqa: F811
    base = {"sha256": "d" * 64, "size": 1, "format": "qcow2"}
    assert mia.post(f"{P}/volumes", {"name": "data", "size_gib": 1}).status_code == 201
    Layer.objects.update(base=base)
    assert mia.post(f"{P}/volumes/data/snapshot", {"name": "snap"}).status_code == 202
    refused = mia.post(f"{P}/snapshots/snap/create-image", {"name": "golden"})
    assert (refused.status_code, "being taken" in refused.data["detail"]) == (409, True)
    settle(None)
    refused = mia.post(f"{P}/snapshots/snap/create-image", {"name": "golden"})
    assert "never attached" in refused.data["detail"]
    Layer.objects.update(host=node.host)
    made = mia.post(f"{P}/snapshots/snap/create-image", {"name": "golden"})
    assert (made.status_code, made.data["status"]) == (202, "importing")
    assert mia.delete(f"{P}/snapshots/snap").status_code == 409  # until it is made
    settle(node)
    [spec] = node.specs.values()
    layer = str(Snapshot.objects.get().layer_id)
    assert spec["source"] == {"kind": "layers", "layers": [layer], "base": base}
    assert mia.get(f"{P}/images/golden").data["status"] == "ready"
    assert mia.delete(f"{P}/snapshots/snap").status_code == 204


@pytest.fixture
def data(mia, node, monkeypatch):  # noqa: F811
    """A volume on a host that keeps layers, and makes images."""
    monkeypatch.setitem(CAPABILITIES, "volumes", {"layers": True})
    node.heartbeat()
    assert mia.post(f"{P}/volumes", {"name": "data", "size_gib": 1}).status_code == 201
    assert "never attached" in mia.post(f"{P}/volumes/data/create-image", {"name": "golden"}).data["detail"]
    Layer.objects.update(host=node.host)
    return Volume.objects.get()


def test_an_image_of_what_is_on_a_volume_now(mia, node, data):  # noqa: F811
    made = mia.post(f"{P}/volumes/data/create-image", {"name": "golden", "version": "2"})
    assert (made.status_code, made.data["status"]) == (202, "importing")
    assert Allocation.objects.get(resource_type="image").disk_gib == 1
    assert mia.get(f"{P}/volumes/data").data["status"] == "creating_image"
    again = mia.post(f"{P}/volumes/data/create-image", {"name": "golden", "version": "3"})
    assert (again.status_code, again.data["code"]) == (409, "busy")
    settle(node)
    image = mia.get(f"{P}/images/golden").data
    assert (image["status"], image["version"], image["source"]["name"]) == ("ready", "2", "data")
    [spec] = node.specs.values()
    assert spec["source"] == {"kind": "layers", "layers": [str(data.active_id)], "base": None}
    written = Volume.objects.get().active
    assert (written.parent_id, written.parent.sealed_at is None) == (data.active_id, False)


def test_an_image_of_what_an_instance_boots_from_has_what_uefi_keeps(mia, node, web):  # noqa: F811
    assert mia.post(f"{P}/volumes", {"name": "root", "size_gib": 1}).status_code == 201
    assert mia.post(f"{P}/volumes/root/snapshot", {"name": "snap"}).status_code == 202
    settle(None)
    Layer.objects.update(host=node.host)
    do(attaching.attach, volume=Volume.objects.get(), holder=attaching.Holder("instance", web.pk, "web", 0))
    node.uefi = b"entries"
    assert mia.post(f"{P}/snapshots/snap/create-image", {"name": "golden"}).status_code == 202
    settle(node)
    [spec] = node.specs.values()
    assert (spec["source"]["type"], spec["source"]["machine"]) == ("instance", str(web.pk))
    assert [file["role"] for file in Image.objects.get(name="golden").files] == ["disk", "uefi-variables"]


def test_its_image_fails_when_the_volume_cannot_be_set_aside(mia, node, data):  # noqa: F811
    mia.post(f"{P}/volumes/data/create-image", {"name": "golden"})
    operation = mia.get(f"{P}/volumes/data").data["operation"]["id"]
    assert mia.post(f"{P}/operations/{operation}/cancel").status_code in (200, 202)
    settle(node)
    image = mia.get(f"{P}/images/golden").data
    assert (image["status"], image["status_reason"]) == ("failed", "data could not be set aside.")
    assert Volume.objects.get().active_id == data.active_id
    assert not node.specs


def test_a_volume_is_not_reverted_while_an_image_is_made_of_it(mia, node, data):  # noqa: F811
    mia.post(f"{P}/volumes/data/snapshot", {"name": "snap"})
    settle(node)
    node.online = False
    mia.post(f"{P}/volumes/data/create-image", {"name": "golden"})
    settle(node)
    refused = mia.post(f"{P}/volumes/data/revert", {"snapshot": "snap"})
    assert (refused.status_code, "The image golden is being made of data." in refused.data["detail"]) == (409, True)
    node.online = True
    settle(node)
    assert mia.post(f"{P}/volumes/data/revert", {"snapshot": "snap"}).status_code == 202
