"""Volumes as disks of instances: by the API, on machines that run and that stand."""

from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from cloud.hosts.models import Host
from cloud.operations.models import Operation
from cloud.uses import InUse
from compute import services
from storage import hosting, trees
from storage.agent.images import Images
from storage.models import Attachment, Volume
from storage.services import backups, volumes
from tests.clouds import SmallCloud
from tests.storage.clouds import deep, do, files, flatten, kind_of, make, qemu_io, reads, second, settle

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def cloud(short_path):
    return SmallCloud(short_path)


@pytest.fixture
def data(cloud):
    return make(cloud, name="data")


@pytest.fixture
def web(cloud):
    kind_of(cloud)
    instance = cloud.launch(name="web")
    settle(cloud)
    return instance


@pytest.fixture
def call(cloud, api, cloud_admin):
    """Do a verb to an instance; its answer. Whatever follows has happened."""
    client = api.as_(cloud_admin)

    def act(verb, body, status=202, name="web"):
        answer = client.post(f"projects/{cloud.project.name}/instances/{name}/{verb}", body)
        assert answer.status_code == status, answer.content
        settle(cloud)
        return answer.json()

    return act


@pytest.fixture
def shown(cloud, api, cloud_admin):
    client = api.as_(cloud_admin)
    return lambda: client.get(f"projects/{cloud.project.name}/instances/web").json()["volumes"]


def disks(cloud, instance):
    """By slot, the serials of what its emulator has beside its root disk."""
    found = cloud.node.hypervisor.disks(str(instance.pk))
    return {slot: serial for slot, serial in found.items() if slot}


def latest(instance):
    return Operation.objects.filter(subject_id=instance.pk).latest("started_at")


def test_a_volume_comes_and_goes_while_it_runs(cloud, data, web, call, shown):
    call("attach-volume", {"volume": "data"})
    assert latest(web).outcome == "done"
    assert disks(cloud, web) == {1: data.serial}
    assert shown() == [
        {"id": str(data.pk), "name": "data", "size_gib": 1, "slot": 1, "read_only": False,
         "delete_with_instance": False}
    ]  # fmt: skip
    assert cloud.node.hypervisor.starts(str(web.pk)) == 1
    call("detach-volume", {"volume": "data"})
    assert (latest(web).outcome, disks(cloud, web), shown()) == ("done", {}, [])
    assert not Attachment.objects.exists()
    assert files(cloud)
    assert cloud.breaches() == []


def test_it_goes_from_one_instance_to_another_and_to_one_only(cloud, data, web, call):
    cloud.launch(name="other")
    settle(cloud)
    call("attach-volume", {"volume": "data"})
    refused = call("attach-volume", {"volume": "data"}, status=409, name="other")
    assert "Detach it there first." in refused["detail"]
    call("detach-volume", {"volume": "data"})
    call("attach-volume", {"volume": "data", "read_only": True}, name="other")
    assert Attachment.objects.get().holder_name == "other"
    assert disks(cloud, web) == {}


def test_several_instances_read_it_as_long_as_none_writes(cloud, data, web, call, api, cloud_admin):
    other = cloud.launch(name="other")
    settle(cloud)
    read = {"volume": "data", "read_only": True}
    call("attach-volume", read)
    call("attach-volume", read, name="other")
    assert disks(cloud, web) == disks(cloud, other) == {1: data.serial}
    volume = f"projects/{cloud.project.name}/volumes/data"
    shown = api.as_(cloud_admin).get(volume).json()
    assert [one["name"] for one in shown["attachments"]] == ["web", "other"]
    assert (shown["attached_to"]["name"], shown["status"]) == ("web", "in_use")
    assert "It has it already." in call("attach-volume", read, 409)["detail"]
    cloud.launch(name="third")
    settle(cloud)
    assert "attach it read-only, too" in call("attach-volume", {"volume": "data"}, 409, name="third")["detail"]
    refused = api.as_(cloud_admin).post(f"{volume}/retype", {"type": data.type.name})
    assert (refused.status_code, "to other and web, which only read it" in refused.json()["detail"]) == (409, True)
    call("detach-volume", {"volume": "data"}, name="other")
    assert (disks(cloud, web), disks(cloud, other)) == ({1: data.serial}, {})
    assert cloud.breaches() == []


def test_what_a_running_instance_only_reads_stays_as_it_is(cloud, data, web, call, api, cloud_admin):
    """Its emulator has it open read-only: it can neither grow nor go on in a new layer."""
    call("attach-volume", {"volume": "data", "read_only": True})
    client, volume = api.as_(cloud_admin), f"projects/{cloud.project.name}/volumes/data"
    for verb, body in (
        ("resize", {"size_gib": 2}), ("snapshot", {"name": "s"}), ("clone", {"name": "c"}),
        ("create-image", {"name": "i"}), ("backup", {"name": "b"}),
    ):  # fmt: skip
        refused = client.post(f"{volume}/{verb}", body)
        assert refused.status_code == 409, (verb, refused.content)
        assert "read-only to web, which is not stopped" in refused.json()["detail"]
    call("stop", {"force": True})
    assert client.post(f"{volume}/snapshot", {"name": "s"}).status_code == 202
    settle(cloud)
    assert client.get(f"projects/{cloud.project.name}/snapshots/s").json()["status"] == "ready"
    call("start", {})
    assert disks(cloud, web) == {1: data.serial}
    assert cloud.breaches() == []


def test_it_has_one_writer_whatever_comes_at_once(cloud, data, web):
    """The rows alone say so, too."""
    rows = [Attachment(volume=data, holder_type="instance", holder_id=uuid4(), slot=1) for _ in range(2)]
    with pytest.raises(IntegrityError, match="volume_is_attached_once"):
        Attachment.objects.bulk_create(rows)


def test_what_stands_takes_it_at_its_next_start(cloud, data, web, call):
    call("stop", {"force": True})
    call("attach-volume", {"volume": "data"})
    assert latest(web).outcome == "done"
    call("start", {})
    assert disks(cloud, web) == {1: data.serial}
    call("stop", {"force": True})
    call("detach-volume", {"volume": "data"})
    call("start", {})
    assert disks(cloud, web) == {}


def test_a_guest_that_does_not_let_go_keeps_its_volume(cloud, data, web, call):
    call("attach-volume", {"volume": "data"})
    cloud.node.hypervisor.clings = "its guest does not let go of it"
    call("detach-volume", {"volume": "data"})
    assert (latest(web).outcome, latest(web).reason) == ("failed", "its guest does not let go of it")
    assert disks(cloud, web) == {1: data.serial}
    assert Attachment.objects.get().wanted
    cloud.node.hypervisor.clings = ""
    call("detach-volume", {"volume": "data"})
    assert disks(cloud, web) == {}


def stopped_with_volume(cloud, web, call):
    """On a node that makes backups: of a machine that stands, as the fake one copies nothing while it runs."""
    cloud.node.tools.add(Images(cloud.node.tools))
    cloud.node.heartbeat()
    call("attach-volume", {"volume": "data"})
    call("stop", {})


def test_it_is_not_detached_while_it_is_copied_for_a_backup(cloud, data, web, call):
    stopped_with_volume(cloud, web, call)
    made = do(backups.create, volume=data, name="backup")
    refused = call("detach-volume", {"volume": "data"}, 409)
    assert (refused["code"], "copy_volume of data is under way" in refused["detail"]) == ("busy", True)
    assert Attachment.objects.get().wanted
    made.refresh_from_db()
    assert (made.status, made.reason) == ("ready", "")
    call("detach-volume", {"volume": "data"})
    assert not Attachment.objects.exists()


def test_an_instance_that_is_deleted_in_the_middle_of_a_backup_leaves_one_of_the_volume(cloud, data, web, call):
    """The copy begins again, of the volume as it is then."""
    stopped_with_volume(cloud, web, call)
    made = do(backups.create, volume=data, name="backup")
    cloud.do(services.delete, web)
    settle(cloud)
    made.refresh_from_db()
    assert (made.status, made.reason) == ("ready", "")
    assert not Attachment.objects.exists()


def test_its_volume_is_reverted_while_it_stands_and_not_while_it_runs(cloud, data, web, call):
    call("attach-volume", {"volume": "data"})
    taken = do(volumes.snapshot, volume=data, name="snap")
    settle(cloud)
    taken.refresh_from_db()
    with pytest.raises(InUse, match="Stop that first"):
        do(volumes.revert, volume=data, snapshot=taken)
    call("stop", {})
    operation = do(volumes.revert, volume=data, snapshot=taken)
    settle(cloud)
    operation.refresh_from_db()
    assert (operation.outcome, operation.reason) == ("done", "")
    call("start", {})
    assert disks(cloud, web) == {1: data.serial}
    assert cloud.breaches() == []


def test_what_its_volume_stands_on_is_merged_while_it_runs(cloud, web, call):
    volume = deep(cloud, name="deep")
    call("attach-volume", {"volume": "deep"})
    node = cloud.node

    def opened():
        with node.hypervisor.control(node.machine(str(web.pk)).home) as control:
            return control.slots.look().disks[1].layers

    assert len(opened()) == 4
    node.hypervisor.verbs.remove("layers")
    Host.objects.update(capabilities=node.capabilities())
    with pytest.raises(InUse, match="web"):
        flatten(volume)
    node.hypervisor.verbs.append("layers")
    Host.objects.update(capabilities=node.capabilities())
    operation = flatten(volume)
    settle(cloud)
    operation.refresh_from_db()
    assert operation.outcome == "done", operation.reason
    chain = trees.tree_of(Volume.objects.get(name="deep")).chain(volume.active_id)
    assert opened() == {f"vdb-{layer.pk.hex[:20]}" for layer in chain}
    assert (len(chain), files(cloud)) == (2, {str(layer.pk) for layer in chain})
    assert cloud.breaches() == []


def test_growth_and_snapshots_reach_a_machine_that_runs(cloud, data, web, call):
    call("attach-volume", {"volume": "data"})
    do(volumes.resize, volume=data, size_gib=3)
    settle(cloud)
    do(volumes.snapshot, volume=data, name="before")
    settle(cloud)
    data.refresh_from_db()
    told = cloud.node.entry(str(web.pk)).facts["volumes"][str(data.pk)]
    assert told == {"slot": 1, "active": str(data.active_id), "size_bytes": 3 << 30}
    assert cloud.node.hypervisor.starts(str(web.pk)) == 1


def test_deleting_the_instance_leaves_the_volume_or_takes_it_along(cloud, data, web, call, api, cloud_admin):
    call("attach-volume", {"volume": "data"})
    make(cloud, name="scratch")
    call("attach-volume", {"volume": "scratch", "delete_with_instance": True})
    assert set(disks(cloud, web)) == {1, 2}
    api.as_(cloud_admin).delete(f"projects/{cloud.project.name}/instances/web?purge=true")
    settle(cloud)
    settle(cloud)
    assert [volume.name for volume in Volume.objects.all()] == ["data"]
    assert not Attachment.objects.exists()
    assert cloud.breaches() == []


def elsewhere(cloud, name):
    """A volume with something on it that is on the other host."""
    second(cloud)
    there = make(cloud, name=name)
    with transaction.atomic():
        hosting.connect(there, Host.objects.get(name="node2"))
    settle(cloud)
    qemu_io(cloud.nodes[1].kinds["volume"].layers.path(str(there.active_id)), "write -P 9 1M 64k")
    return there


def test_a_volume_on_another_host_is_copied_here_first(cloud, web, call):
    there = elsewhere(cloud, "far")
    call("attach-volume", {"volume": "far"})
    assert (latest(web).outcome, disks(cloud, web)) == ("done", {1: there.serial})
    assert reads(cloud, there, 9, "1M")
    assert set(cloud.nodes[1].kinds["volume"].layers.there()) == set()
    assert cloud.breaches() == []


def test_a_volume_that_cannot_be_copied_here_is_attached_to_nothing(cloud, web, call, monkeypatch):
    there = elsewhere(cloud, "far")
    monkeypatch.setattr("storage.agent.transfers.unpack", lambda packed: b"x" * (4 << 20))
    call("attach-volume", {"volume": "far"})
    assert (latest(web).outcome, disks(cloud, web)) == ("failed", {})
    assert not Attachment.objects.exists()
    assert hosting.host_of(Volume.objects.get(pk=there.pk)).name == "node2"
    assert cloud.breaches() == []


def test_what_makes_no_sense_is_refused_in_words(cloud, data, web, call):
    assert call("attach-volume", {}, status=400)["detail"] == "Give a volume."
    words = call("detach-volume", {"volume": "data"}, status=400)["detail"]
    assert words == "data is not attached to web."
    call("suspend", {})
    words = call("attach-volume", {"volume": "data"}, status=409)["detail"]
    assert words == "web is suspended, and goes on with the devices that it has. Resume or stop it first."
    call("resume", {})
    call("attach-volume", {"volume": "data"})
    words = call("clone", {"name": "copy"}, status=409)["detail"]
    assert words == "web has volumes, which its clones cannot have as well. Detach them first."
    call("suspend", {})
    call("resume", {})
    assert disks(cloud, web) == {1: data.serial}


def test_a_volume_whose_instance_is_not_there_is_found_and_set_free(cloud, data, web, call):
    call("attach-volume", {"volume": "data"})
    call("detach-volume", {"volume": "data"})
    data.refresh_from_db()
    data.attachments.create(holder_type="instance", holder_id=data.pk, holder_name="lost", slot=1)
    [breach] = [breach for breach in cloud.breaches() if "lost" in breach.words]
    assert breach.words == "data is attached to lost, which does not exist"
    breach.repair()
    assert not Attachment.objects.exists()
    assert cloud.breaches() == []


def test_what_its_bus_cannot_is_refused_before(cloud, data, web, call):
    web.hardware = {"disk_bus": "ide"}
    web.save(update_fields=["hardware"])
    words = call("attach-volume", {"volume": "data"}, status=409)["detail"]
    assert words == "web runs, and nothing is plugged into IDE while a machine runs. Stop it first."
    call("stop", {})
    words = call("attach-volume", {"volume": "data", "read_only": True}, status=400)["detail"]
    assert words == "web has its disks on IDE, where none can be read-only."
    call("attach-volume", {"volume": "data"})
    make(cloud, name="more")
    words = call("attach-volume", {"volume": "more"}, status=409)["detail"]
    assert words == "web has 1 volumes, and can have no more."
