"""Launches with volumes: new ones, such as are there, further disks of an image, and one to boot from."""

import pytest
from django.db import transaction

from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy.models import Quota
from compute import services
from compute.models import Instance
from storage import hosting
from storage.models import Attachment, Image, Layer, Snapshot, Volume
from storage.services import volumes
from tests import factories
from tests.clouds import ALICE, SmallCloud
from tests.storage.clouds import do, files, give_volumes, kind_of, make, placed, settle

pytestmark = pytest.mark.django_db(transaction=True)

GIB = 1 << 30


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def cloud(short_path):
    made = SmallCloud(short_path)
    kind_of(made)
    return made


@pytest.fixture
def client(cloud, api, cloud_admin):
    return api.as_(cloud_admin)


@pytest.fixture
def launch(cloud, client):
    """Launch web with this; the answer."""

    def do(status=202, query="", **wishes):
        body = {"name": "web", "flavor": cloud.flavor.name, "image": cloud.image.name, **wishes}
        body = {name: value for name, value in body.items() if value is not None}
        answer = client.post(f"projects/{cloud.project.name}/instances{query}", body)
        assert answer.status_code == status, answer.content
        return answer.json()

    return do


def attached(instance_name="web"):
    """By slot, the names of its volumes, and whether they are deleted with it."""
    held = Attachment.objects.filter(holder_name=instance_name).order_by("slot")
    return {one.slot: (one.volume.name, one.delete_with_holder) for one in held}


def seen(cloud):
    """By slot, the serials of the disks that the emulator of web has."""
    return cloud.node.hypervisor.disks(str(Instance.objects.get(name="web").pk))


def pointers(answer):
    return {fault["pointer"] for fault in answer["errors"]}


def test_a_new_volume_comes_and_goes_with_the_instance(cloud, client, launch):
    shown = launch(volumes=[{"size_gib": 3}, {"size_gib": 2, "name": "logs", "delete_with_instance": False}])
    assert [(one["name"], one["size_gib"], one["slot"]) for one in shown["volumes"]] == [
        ("web-volume-1", 3, 1), ("logs", 2, 2),
    ]  # fmt: skip
    settle(cloud)
    assert attached() == {1: ("web-volume-1", True), 2: ("logs", False)}
    assert set(seen(cloud)) == {0, 1, 2}
    assert len(files(cloud)) == 2
    client.delete(f"projects/{cloud.project.name}/instances/web?purge=true")
    settle(cloud)
    settle(cloud)
    assert list(Volume.objects.values_list("name", flat=True)) == ["logs"]
    assert cloud.breaches() == []


def test_one_that_is_there_is_kept(cloud, client, launch):
    data = placed(cloud, name="data")
    launch(volumes=[{"volume": "data", "read_only": True}])
    settle(cloud)
    assert seen(cloud)[1] == data.serial
    assert Attachment.objects.get().read_only
    client.delete(f"projects/{cloud.project.name}/instances/web?purge=true")
    settle(cloud)
    assert list(Volume.objects.all()) == [data]
    assert not Attachment.objects.exists()


def test_several_get_volumes_of_their_own(cloud, launch):
    launch(count=2, volumes=[{"size_gib": 1}, {"size_gib": 1, "name": "data"}])
    settle(cloud)
    assert attached("web-1") == {1: ("web-1-volume-1", True), 2: ("data-1", True)}
    assert attached("web-2") == {1: ("web-2-volume-1", True), 2: ("data-2", True)}
    assert cloud.breaches() == []


def test_a_dry_run_makes_nothing(cloud, launch):
    shown = launch(query="?dry_run=true", volumes=[{"size_gib": 3}])
    assert shown["volumes"][0]["name"] == "web-volume-1"
    assert not Volume.objects.exists()
    assert not Layer.objects.exists()


def other_node(cloud):
    """node2, which has volumes, too."""
    cloud.nodes.append(cloud.add_node("node2"))
    give_volumes(cloud.nodes[-1])


def test_it_goes_where_its_volume_is(cloud, launch):
    other_node(cloud)
    data = placed(cloud, name="data")  # on node1
    filler = factories.flavor("filler", vcpus=4)
    launch(name="filler", flavor=filler.name, host="node2")  # by itself the next one would be packed beside this
    launch(volumes=[{"volume": "data"}, {"size_gib": 1}])
    settle(cloud)
    web = Instance.objects.get(name="web")
    assert web.host.name == "node1"
    assert {layer.host.name for layer in Layer.objects.all()} == {"node1"}
    assert data.serial in seen(cloud).values()


def test_volumes_on_two_hosts_are_refused_with_both_named(cloud, launch):
    here = placed(cloud, name="here")
    other_node(cloud)
    there = make(cloud, name="there")
    with transaction.atomic():
        hosting.connect(there, Host.objects.get(name="node2"))
    settle(cloud)
    refused = launch(status=400, volumes=[{"volume": "here"}, {"volume": "there"}])
    assert refused["errors"][0]["message"].startswith("here and there are on different hosts")
    refused = launch(status=400, host="node2", volumes=[{"volume": here.name}])
    assert pointers(refused) == {"/host"}


def test_a_host_without_room_for_its_volumes_does_not_get_it(cloud, launch):
    refused = launch(status=409, volumes=[{"size_gib": 200}])
    assert refused["code"] == "no_capacity"
    assert "lack disk" in refused["detail"]
    launch(volumes=[{"size_gib": 150}])
    settle(cloud)
    web, volume = Instance.objects.get(name="web"), Volume.objects.get()
    assert Allocation.of("instance", web.pk).get().disk_gib == cloud.flavor.disk_gib
    assert Allocation.of("volume", volume.pk).get().disk_gib == 150


def test_the_quota_counts_all_of_them_together(cloud, launch):
    Quota.objects.filter(project=cloud.project).update(limits={"instances": 0, "volumes": 3, "volume_gib": 5})
    refused = launch(status=403, count=2, volumes=[{"size_gib": 1}, {"size_gib": 2}])
    assert {over["kind"]: over["asked"] for over in refused["quota"]} == {"instances": 2, "volumes": 4, "volume_gib": 6}


def test_all_faults_are_named_at_once(cloud, launch):
    make(cloud, name="data")
    refused = launch(status=400, volumes=[{}, {"size_gib": 0}, {"volume": "data", "name": "x"}, {"volume": "nothing"}])
    assert pointers(refused) == {"/volumes/0", "/volumes/1/size_gib", "/volumes/2/name", "/volumes/3/volume"}
    cloud.image.min_memory_mib = 4096
    cloud.image.save()
    refused = launch(
        status=400, count=2, volumes=[{"volume": "data"}] * 2 + [{"size_gib": 1, "name": "same"}] * 2,
    )  # fmt: skip
    assert pointers(refused) == {"/flavor", "/volumes/0/volume", "/volumes/1/volume", "/volumes"}
    refused = launch(status=400, volumes=[{"size_gib": 1, "name": "data"}])
    assert pointers(refused) == {"/flavor", "/volumes/0/name"}


def cancelled(launched):
    """Cancel the launch of web before it has run."""
    engine.cancel(Operation.objects.get(subject_id=launched["id"], finished_at=None).pk, actor=ALICE)


def test_a_launch_that_is_cancelled_leaves_no_volume_and_can_be_tried_again(cloud, client, launch):
    data = make(cloud, name="data")
    fast = factories.volume_type()
    new = {"size_gib": 2, "type": fast.name, "delete_with_instance": False}
    launched = launch(volumes=[{"volume": "data", "delete_with_instance": True}, new])
    cancelled(launched)
    settle(cloud)
    settle(cloud)
    assert list(Volume.objects.all()) == [data]
    assert not Attachment.objects.exists()
    assert cloud.breaches() == []
    answer = client.post(f"projects/{cloud.project.name}/instances/web/start")
    assert answer.status_code == 202, answer.content
    settle(cloud)
    assert attached() == {1: ("data", True), 2: ("web-volume-2", False)}
    assert Volume.objects.get(name="web-volume-2").type == fast
    assert set(seen(cloud)) == {0, 1, 2}
    assert cloud.breaches() == []


def test_a_retry_without_the_volume_that_it_had_is_refused_in_words(cloud, client, launch):
    data = make(cloud, name="data")
    cancelled(launch(volumes=[{"volume": "data"}]))
    settle(cloud)
    do(volumes.delete, volume=data)
    settle(cloud)
    answer = client.post(f"projects/{cloud.project.name}/instances/web/start")
    assert "is not there any more" in answer.json()["detail"]


def test_a_launch_waits_for_room_for_its_volumes(cloud, launch):
    launch(name="big", volumes=[{"size_gib": 150}])
    settle(cloud)
    launch(volumes=[{"size_gib": 100}])
    operation = Operation.objects.get(subject_name="web", finished_at=None)
    engine.advance(operation.pk)
    operation.refresh_from_db()
    assert "lack disk" in operation.reason
    cloud.do(services.delete, Instance.objects.get(name="big"))
    settle(cloud)
    settle(cloud)
    assert set(seen(cloud)) == {0, 1}


def test_further_disks_of_an_image_become_volumes(cloud, launch):
    disks = [
        {"role": "disk", "index": index, "sha256": f"{index}" * 64, "size": 1, "format": "qcow2", "virtual_bytes": size}
        for index, size in enumerate((GIB, 2 * GIB + 1, GIB))
    ]
    cloud.image.files = disks
    cloud.image.save()
    shown = launch(volumes=[{"size_gib": 1}])
    assert [(one["name"], one["size_gib"], one["slot"]) for one in shown["volumes"]] == [
        ("web-volume-1", 3, 1), ("web-volume-2", 1, 2), ("web-volume-3", 1, 3),
    ]  # fmt: skip
    bases = {volume.name: volume.active.base for volume in Volume.objects.all()}
    assert bases["web-volume-1"]["sha256"] == "1" * 64
    assert bases["web-volume-3"] is None
    assert not Volume.objects.filter(bootable=True).exists()
    assert [file["index"] for file in Instance.objects.get(name="web").boot_files] == [0]


@pytest.fixture
def disk_image(cloud):
    file = {"role": "disk", "index": 0, "sha256": "d" * 64, "size": 1, "format": "qcow2", "virtual_bytes": 2 * GIB}
    return factories.image("disk", files=[file], min_disk_gib=2, default_user="debian", disk_bus="sata")


def test_it_boots_from_a_volume_that_was_made_from_an_image(cloud, launch, disk_image):
    make(cloud, name="root", image=disk_image, size_gib=5)
    shown = launch(image=None, boot_from={"volume": "root"})
    assert (shown["image"]["name"], shown["login_user"], shown["flavor"]["disk_gib"]) == ("disk", "debian", 0)
    web = Instance.objects.get(name="web")
    assert (web.boot_files, web.hardware["disk_bus"]) == (disk_image.files, "sata")
    assert attached() == {0: ("root", False)}
    assert Allocation.of("instance", web.pk).get().disk_gib == 0


def test_it_boots_from_a_new_volume(cloud, launch, disk_image):
    launch(image="disk", boot_from={"size_gib": 7, "delete_with_instance": False}, volumes=[{"size_gib": 1}])
    assert attached() == {0: ("web-root", False), 1: ("web-volume-1", True)}
    root = Volume.objects.get(name="web-root")
    assert (root.size_gib, root.bootable, root.active.base["sha256"]) == (7, True, "d" * 64)
    launch(name="small", image="disk", boot_from={})
    assert Volume.objects.get(name="small-root").size_gib == 2


def test_what_nothing_boots_from_is_refused(cloud, launch, disk_image):
    make(cloud, name="data")
    refused = launch(status=400, image=None, boot_from={"volume": "data"})
    assert pointers(refused) == {"/boot_from/volume"}
    assert pointers(launch(status=400, image=None)) == {"/image"}
    assert pointers(launch(status=400, boot_from={"volume": "data"})) == {"/image"}
    assert pointers(launch(status=400, image="disk", boot_from={"size_gib": 1})) == {"/boot_from/size_gib"}
    assert pointers(launch(status=400, boot_from={"size_gib": 1})) == {"/boot_from"}


def test_what_a_bus_cannot_have_is_refused_at_launch(cloud, launch, disk_image):
    Image.objects.filter(pk=disk_image.pk).update(disk_bus="ide", min_disk_gib=1)
    make(cloud, name="data")
    volumes = [{"size_gib": 1}, {"volume": "data", "read_only": True}]
    refused = launch(status=400, image="disk", volumes=volumes)
    assert pointers(refused) == {"/volumes", "/volumes/1/read_only"}
    assert "at most 1 volumes beside the one that it boots from where its disks are on IDE" in refused["detail"]
    Image.objects.filter(pk=disk_image.pk).update(disk_bus="ide", machine_type="q35")
    assert pointers(launch(status=400, image="disk")) == {"/image"}
    Image.objects.filter(pk=disk_image.pk).update(hypervisors=["unicorn"], machine_type="")
    refused = launch(status=400, image="disk")
    assert "unicorn makes machines with virtio only, and disk wants others." in refused["detail"]


def test_a_dry_run_of_a_delete_says_what_becomes_of_volumes(cloud, client, launch):
    launch(volumes=[{"size_gib": 1, "name": name} for name in ("gone", "guarded", "with-guarded")])
    cloud.settle()
    gone, guarded, with_guarded = Volume.objects.order_by("name")
    for volume in (gone, with_guarded):
        do(volumes.snapshot, volume=volume, name=f"of-{volume.name}")
        settle(cloud)
    Snapshot.objects.filter(volume=with_guarded).update(protected=True)
    Volume.objects.filter(pk=guarded.pk).update(protected=True)
    where = f"projects/{cloud.project.name}/instances/web"
    said = client.delete(f"{where}?purge=true&dry_run=true").json()["plan"]["volumes"]
    assert [(one["name"], one["fate"], one["snapshots"]) for one in said] == [
        ("gone", "deleted", ["of-gone"]),
        ("guarded", "kept", []),
        ("with-guarded", "kept", ["of-with-guarded"]),
    ]
    client.delete(f"{where}?purge=true")
    cloud.settle()
    assert set(Volume.objects.values_list("name", flat=True)) == {"guarded", "with-guarded"}
