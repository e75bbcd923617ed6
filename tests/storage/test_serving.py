"""Volumes that a storage host serves to machines on other hosts, by real QEMU and TLS; the machines are fakes."""

import importlib
import json
import subprocess
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps import apps
from django.db.models.functions import Now

from agent import faults, folders
from agent.entries import Key
from agent.errors import Refused
from agent.jail import UIDS
from cloud.hosts import reconcile
from cloud.hosts.models import Allocation, Host, HostPulse
from cloud.operations.models import Operation
from cloud.problems import Conflict, Invalid
from compute import services
from compute.first_volumes import Disk
from compute.models import Instance
from compute.services.taking import take_it_over
from compute.volumes import UnfitVolumes
from storage.agent.confined import SERVER
from storage.agent.images import Images
from storage.agent.nbd import creds, write_key
from storage.agent.relays import cut_off, find
from storage.agent.serving import MAX_PORTS, UID, Address, _user
from storage.hosting import NoRoom
from storage.models import Attachment, Backup, Snapshot, Volume, VolumeType
from storage.services import backups, moving, retyping, taking, volume_types, volumes
from storage.services.volumes import UnfitVolume, WrongState
from tests import factories
from tests.storage.ceph import free_ports
from tests.storage.clouds import do, give_volumes, kind_of, make, second, settle
from tests.storage.scenarios import silence
from tests.storage.test_volumes import an_image

pytestmark = pytest.mark.django_db(transaction=True)
PORTS = 4


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def two(cloud):
    """Two hosts: the first one serves."""
    kind_of(cloud)
    second(cloud)
    first = free_ports()
    serves(cloud).write_text(f"127.0.0.1:{first}-{first + PORTS - 1}\n")
    for node in cloud.nodes:
        node.heartbeat()
    yield cloud
    for node in cloud.nodes:
        cut_off(list(find(node.paths.home)))
    serving = kind_of(cloud).serving
    for volume in folders.names(serving._directory):  # also of those that no row is about any more
        serving.end(volume)


def serves(cloud) -> Path:
    return cloud.node.paths.home / "serves"


@pytest.fixture
def served(two):
    """A type of such volumes."""
    pools = host(1).capabilities["pools"]
    [pool] = [key for key, facts in pools.items() if facts.get("kind") == "nbd"]
    return do(volume_types.create, wished={"name": "served", "pool": uuid.UUID(pool)})


def host(number):
    return Host.objects.get(name=f"node{number}")


def now(volume):
    return Volume.objects.select_related("active__host", "type").get(pk=volume.pk)


def launched(cloud, number):
    instance = cloud.launch(host=host(number))
    settle(cloud)
    return instance


def plugged(cloud, number, instance):
    return cloud.nodes[number - 1].hypervisor.disks(str(instance.pk))


def attach(cloud, instance, volume, **how):
    cloud.do(services.attach_volume, instance, volume=now(volume), **how)
    settle(cloud)


def detach(cloud, instance, volume):
    cloud.do(services.detach_volume, instance, volume=now(volume))
    settle(cloud)


def server_of(cloud, volume):
    """The process that serves it, if one does."""
    return kind_of(cloud).serving._find(str(volume.pk))


def told(cloud, number, instance):
    """What the host of an instance knows of its only volume."""
    entry = cloud.nodes[number - 1].ledger.get(Key("instance", str(instance.pk)))
    return entry.spec["volumes"][0]


def io(tmp_path, place, *commands, **changed):
    """What qemu-io says of a volume over the network, to whoever knows what the instance's host knows."""
    place = {**place, **changed}
    keys = tmp_path / uuid.uuid4().hex
    keys.mkdir()
    write_key(keys, place["key"], None)
    server = {"type": "inet", "host": place["host"], "port": str(place["port"])}
    file = {"driver": "nbd", "server": server, "export": place["id"], "tls-creds": "tls"}
    image = "json:" + json.dumps({"driver": "raw", "file": file})
    words = [word for command in commands for word in ("-c", command)]
    argv = ["qemu-io", "--object", creds("client", keys), *words, image]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


def works(said):
    return "error" not in said.lower() and "can't open" not in said and "verification failed" not in said


def test_it_stays_on_its_host_and_is_attached_on_any_other(two, served, tmp_path):
    assert served.pool_kind == "nbd"
    volume = make(two, type=served, size_gib=2)
    assert now(volume).active.host == host(1), "it is there from the beginning"
    assert Allocation.of("volume", volume.pk).get().disk_gib == 2
    other, here = launched(two, 2), launched(two, 1)
    attach(two, other, volume)
    assert plugged(two, 2, other)[1] == volume.serial
    place = told(two, 2, other)["served"]
    assert works(io(tmp_path, place, "write -P 7 0 64k", "read -P 7 0 64k"))
    assert server_of(two, volume)
    assert two.breaches() == []
    detach(two, other, volume)
    assert 1 not in plugged(two, 2, other)
    assert server_of(two, volume) is None
    attach(two, here, volume)
    again = told(two, 1, here)["served"]
    assert again["key"] != place["key"]
    assert works(io(tmp_path, again, "read -P 7 0 64k", "read -P 0 64k 64k"))
    assert not works(io(tmp_path, again, "read 0 64k", key=place["key"])), "the key goes with the attachment"
    assert not works(io(tmp_path, again, "read 0 64k", id=place["id"]))
    assert list(volume.on_hosts.values_list("host__name", flat=True)) == ["node1"]
    assert two.breaches() == []
    detach(two, here, volume)
    do(volumes.delete, volume=now(volume))
    settle(two)
    assert not Volume.objects.exists()
    assert two.breaches() == []


def test_it_grows_has_snapshots_and_goes_back_while_it_is_attached(two, served, tmp_path):
    volume, instance = make(two, type=served), launched(two, 2)
    attach(two, instance, volume)
    place = told(two, 2, instance)["served"]
    assert works(io(tmp_path, place, "write -P 7 0 64k"))
    before = server_of(two, volume)
    do(volumes.resize, volume=now(volume), size_gib=2)
    settle(two)
    assert told(two, 2, instance)["served"] == place, "the same way in, and another process"
    assert server_of(two, volume) != before
    assert "2 GiB" in io(tmp_path, place, "length")
    do(volumes.snapshot, volume=now(volume), name="monday")
    settle(two)
    assert Snapshot.objects.get().consistency == "crash"
    assert works(io(tmp_path, place, "read -P 7 0 64k", "write -P 8 0 64k"))
    copy = do(volumes.create, project=two.project, name="copy", snapshot=Snapshot.objects.get())
    settle(two)
    assert copy.type == served
    with pytest.raises(Conflict, match="Stop that first"):
        do(volumes.revert, volume=now(volume), snapshot=Snapshot.objects.get())
    two.do(services.stop, instance)
    settle(two)
    do(volumes.revert, volume=now(volume), snapshot=Snapshot.objects.get())
    settle(two)
    assert works(io(tmp_path, place, "read -P 7 0 64k"))
    assert not Operation.objects.exclude(outcome="done").exists()
    assert two.breaches() == []
    detach(two, instance, volume)
    attach(two, instance, copy)
    assert works(io(tmp_path, told(two, 2, instance)["served"], "read -P 7 0 64k"))


def test_what_serves_it_dies_and_is_there_again(two, served, tmp_path):
    volume, instance = make(two, type=served), launched(two, 2)
    attach(two, instance, volume)
    place = told(two, 2, instance)["served"]
    assert works(io(tmp_path, place, "write -P 7 0 64k"))
    server_of(two, volume).kill()
    assert not works(io(tmp_path, place, "read -P 7 0 64k"))
    two.nodes[0].look()
    assert works(io(tmp_path, place, "read -P 7 0 64k"))
    assert two.breaches() == []


def test_nothing_serves_it_while_its_host_is_down(two, served, tmp_path):
    volume, instance = make(two, type=served), launched(two, 2)
    attach(two, instance, volume)
    place = told(two, 2, instance)["served"]
    assert works(io(tmp_path, place, "write -P 7 0 64k"))
    entry = two.nodes[0].ledger.get(Key("volume", str(volume.pk)))
    assert not two.nodes[0].interrupt(entry, 1)
    assert server_of(two, volume) is None
    two.nodes[0].look()
    assert works(io(tmp_path, place, "read -P 7 0 64k"))


def test_it_begins_with_an_image_and_an_instance_boots_from_it_elsewhere(two, served, settings, tmp_path):
    settings.IMAGE_STORE = tmp_path
    image = an_image(tmp_path)
    instance = two.launch(host=host(2), image=image, boot_from=Disk(size_gib=2, type=served))
    settle(two)
    volume = Volume.objects.get()
    assert plugged(two, 2, instance) == {0: volume.serial}
    assert works(io(tmp_path, told(two, 2, instance)["served"], "read -P 9 0 64k", "read -P 0 64k 1M"))
    assert two.breaches() == []


def test_an_instance_that_boots_from_it_elsewhere_is_lost_with_it(two, served, settings, tmp_path, api, cloud_admin):
    settings.IMAGE_STORE = tmp_path
    kept = make(two, name="kept")
    data = Disk(size_gib=1, type=served, name="d3")
    boot_from = Disk(size_gib=2, type=served)
    instance = two.launch(host=host(2), image=an_image(tmp_path), boot_from=boot_from, volumes=[data])
    settle(two)
    attach(two, instance, kept)
    root = Volume.objects.exclude(name__in=("kept", "d3")).get()
    silence(two)
    path = "hosts/node1/declare-lost"
    preview = api.as_(cloud_admin).post(f"{path}?dry_run=true", {"confirm": "node1"}).json()
    assert {(one["name"], one["fate"]) for one in preview["plan"]["at_stake"]} == {
        (instance.name, "lost"), (root.name, "lost"), ("d3", "lost")
    }  # fmt: skip
    api.as_(cloud_admin).post(path, {"confirm": "node1"})
    for _ in range(4):
        reconcile.reconcile()
        settle(two)
    instance = Instance.objects.get()
    assert (instance.machine, instance.wanted_power) == (None, "stopped")
    assert "boots from was lost with its storage host" in instance.failed_reason
    assert two.running() == set()
    assert not kept.attachments.exists(), "what is elsewhere is free for another"
    assert set(Volume.objects.values_list("name", flat=True)) == {"kept"}, "what was made for it goes with it"
    assert two.breaches() == []


def test_it_is_backed_up_while_it_is_attached(two, served, settings, tmp_path):
    settings.BACKUP_STORE = tmp_path / "backups"
    two.node.tools.add(Images(two.node.tools))
    give_volumes(two.node)
    two.node.heartbeat()
    volume, instance = make(two, type=served), launched(two, 2)
    attach(two, instance, volume)
    place = told(two, 2, instance)["served"]
    assert works(io(tmp_path, place, "write -P 7 0 64k", "write -P 6 8M 64k"))
    first = backed_up(two, volume)
    assert (first.status, first.consistency) == ("ready", "crash")
    assert works(io(tmp_path, place, "write -P 8 0 64k", "read -P 6 8M 64k"))
    second = backed_up(two, volume)
    assert 0 < second.added_bytes < first.added_bytes, "what has not changed is not sent again"
    copy = do(backups.restore, backup=first, name="restored")
    settle(two)
    attach(two, instance, copy)
    [other] = [one["served"] for one in of_ledger(two, 2, instance) if one["id"] == str(copy.pk)]
    assert works(io(tmp_path, other, "read -P 7 0 64k", "read -P 6 8M 64k"))
    assert two.breaches() == []


def backed_up(cloud, volume):
    made = do(backups.create, volume=now(volume), name=factories.name("backup"))
    settle(cloud)
    return Backup.objects.get(pk=made.pk)


def of_ledger(cloud, number, instance):
    return cloud.nodes[number - 1].ledger.get(Key("instance", str(instance.pk))).spec["volumes"]


class Killed(BaseException):
    """The worker, as by kill -9."""


@pytest.mark.parametrize("point", sorted(point for point in faults.POINTS if point.startswith("serving.")))
def test_a_worker_that_dies_in_the_middle_is_followed_by_one_that_goes_on(point, two, served, tmp_path, monkeypatch):
    volume, instance = make(two, type=served), launched(two, 2)

    def dying(act):
        """Do something while the storage host's worker dies at the point, if it comes to that."""
        died = []

        def reach(here):
            if here == point:
                died.append(here)
                raise Killed

        with monkeypatch.context() as killing:
            killing.setattr(faults, "reach", reach)
            with suppress(Killed):
                act()
        if died:
            two.nodes[0] = two.node.restart()
            give_volumes(two.node)
        settle(two)
        return bool(died)

    died = dying(lambda: attach(two, instance, volume))
    place = told(two, 2, instance)["served"]
    assert works(io(tmp_path, place, "write -P 7 0 64k"))
    do(volumes.resize, volume=now(volume), size_gib=2)
    died |= dying(lambda: settle(two))
    assert "2 GiB" in io(tmp_path, place, "length")
    died |= dying(lambda: detach(two, instance, volume))
    assert died
    assert server_of(two, volume) is None
    assert not Attachment.objects.exists()
    assert not Operation.objects.exclude(outcome="done").exists()
    attach(two, instance, volume)
    assert works(io(tmp_path, told(two, 2, instance)["served"], "read -P 7 0 64k"))
    assert two.breaches() == []


def test_a_host_that_is_not_heard_of_loses_it_with_its_instance(two, served, tmp_path):
    volume, lost, other = make(two, type=served), launched(two, 2), launched(two, 1)
    attach(two, lost, volume)
    place = told(two, 2, lost)["served"]
    two.nodes[1].online = False
    HostPulse.objects.filter(host=host(2)).update(seen_at=Now() - timedelta(hours=1))
    two.do(services.delete, lost)
    Operation.objects.filter(finished_at=None).update(started_at=Now() - timedelta(hours=1))
    settle(two)
    assert not Attachment.objects.exists()
    assert not works(io(tmp_path, place, "write -P 9 0 64k")), "nothing there may write it any more"
    attach(two, other, volume)
    assert works(io(tmp_path, told(two, 1, other)["served"], "read -P 0 0 64k"))


def test_the_health_page_says_what_a_storage_host_lacks(two, served):
    kind = kind_of(two)
    assert kind.serving.problems() == []
    for line, words in (("nonsense", "has to be one line like"), ("203.0.113.9:20000-20001", "has no address")):
        serves(two).write_text(line)
        [problem] = kind.serving.problems()
        assert (problem["what"], words in problem["problem"]) == ("storage host", True)


def test_no_more_than_its_ports_are_attached_at_once(two, served):
    first = free_ports()
    serves(two).write_text(f"127.0.0.1:{first}-{first}")
    one, more, instance = make(two, type=served), make(two, type=served), launched(two, 2)
    attach(two, instance, one)
    assert "all 1 ports for volumes are taken" in kind_of(two).serving.problems()[0]["problem"]
    attach(two, instance, more)
    failed = Operation.objects.get(outcome="failed")
    assert "no port for one more volume is free" in failed.reason
    assert list(Attachment.objects.values_list("volume", flat=True)) == [one.pk]


def test_types_of_before_are_bound_to_who_has_their_volumes_or_alone_says_so(two, served):
    pin = importlib.import_module("storage.migrations.0022_storage_host_of_types").pin

    def bound():
        VolumeType.objects.filter(pk=served.pk).update(served_by=None)
        pin(apps, None)
        return VolumeType.objects.get(pk=served.pk).served_by

    assert bound() == host(1).pk
    pools = host(1).capabilities["pools"]
    Host.objects.filter(name="node2").update(capabilities={**host(2).capabilities, "pools": pools})
    assert bound() is None, "two say it"
    VolumeType.objects.filter(pk=served.pk).update(served_by=host(1).pk)
    Host.objects.filter(name="node2").update(capabilities={**host(2).capabilities, "pools": {}})
    make(two, type=VolumeType.objects.get(pk=served.pk))
    Host.objects.filter(name="node1").update(capabilities={**host(1).capabilities, "pools": {}})
    Host.objects.filter(name="node2").update(capabilities={**host(2).capabilities, "pools": pools})
    assert bound() == host(1).pk, "whoever says it now"


def test_a_type_is_changed_whoever_is_its_storage_host_and_bound_to_another_on_its_page(
    client, cloud_admin, two, served
):
    pools = host(1).capabilities["pools"]
    Host.objects.filter(name="node1").update(capabilities={**host(1).capabilities, "pools": {}})
    client.force_login(cloud_admin)
    path = f"/cloud/volume-types/{served.pk}"
    form = {"name": "served", "price_per_gib_hour": "1", "pool": str(served.pool), "enabled": "on", "public": "on"}
    assert client.post(path, form).status_code == 303, "no host says that it is"
    Host.objects.filter(name="node2").update(capabilities={**host(2).capabilities, "pools": pools})
    assert client.post(path, form | {"price_per_gib_hour": "2"}).status_code == 303
    served.refresh_from_db()
    assert served.served_by == host(1).pk
    assert 'name="rebind"' in client.get(path).content.decode()
    assert client.post(path, form | {"rebind": "on"}).status_code == 303
    served.refresh_from_db()
    assert served.served_by == host(2).pk


def test_no_new_one_is_placed_on_a_storage_host_that_is_lost_or_doubtful(two, served):
    pools = host(1).capabilities["pools"]
    Host.objects.filter(name="node2").update(capabilities={**host(2).capabilities, "pools": pools})
    with pytest.raises(NoRoom, match="node1 and node2 say both that they are the storage host"):
        make(two, type=served)
    with pytest.raises(Invalid, match="node1 and node2 say both"):
        do(volume_types.update, volume_type=served, changes={"rebind": True})
    Host.objects.filter(name="node1").update(lost_at=Now())
    with pytest.raises(NoRoom, match="made for another one"):
        make(two, type=served)
    do(volume_types.update, volume_type=served, changes={"rebind": True})
    served = VolumeType.objects.get(pk=served.pk)
    assert now(make(two, type=served)).active.host == host(2), "it has joined anew, and an admin has said so"
    Host.objects.filter(name="node2").update(lost_at=Now())
    with pytest.raises(NoRoom, match="No storage host serves volumes"):
        make(two, type=served)


def test_each_port_has_a_user_of_its_own_in_the_block_of_the_agent(two, served):
    """Whatever was written in the file `serves` before."""
    block, others = 65_536, UIDS + SERVER
    ports = Address.of("10.0.0.5:10900-14995").ports
    users = {UID + _user(port) for port in ports}
    assert (len(users), min(users) > others, max(users) < block) == (len(ports), True, True)
    for line in ("10.0.0.5:10900-14996", "0.0.0.0:10900-10999", "[::]:10900-10999"):
        with pytest.raises(Refused, match="at most 4096 ports"):
            Address.of(line)
    one, instance, other = make(two, type=served), launched(two, 2), make(two, type=served)
    attach(two, instance, one)
    port = told(two, 2, instance)["served"]["port"]
    far = port + MAX_PORTS if port + MAX_PORTS + 9 < 1 << 16 else port - MAX_PORTS
    serves(two).write_text(f"127.0.0.1:{far}-{far + 9}")
    attach(two, instance, other)
    assert other.on_hosts.get().seen_facts["served"]["port"] > far, "the user of the first port is taken"


def test_what_is_not_possible_is_refused_in_words(two, served):
    volume, local, instance = make(two, type=served), make(two), launched(two, 2)
    attach(two, instance, volume)
    refused = [
        (WrongState, lambda: do(moving.move, volume=volume, host=host(2))),
        (WrongState, lambda: do(taking.take_it_over, volume=volume)),
        (UnfitVolume, lambda: do(retyping.retype, volume=volume, type=local.type)),
        (UnfitVolume, lambda: do(retyping.retype, volume=local, type=served)),
        (NoRoom, lambda: make(two, type=served, size_gib=900)),
    ]
    for error, act in refused:
        with pytest.raises(error):
            act()
    serves(two).unlink()
    two.nodes[0].heartbeat()
    with pytest.raises(NoRoom, match="No storage host serves volumes of the type served now"):
        make(two, type=served)
    detach(two, instance, volume)
    Host.objects.filter(name="node2").update(capabilities={**host(2).capabilities, "volumes": {"layers": True}})
    with pytest.raises(UnfitVolumes, match="does not have qemu-nbd"):
        attach(two, instance, volume)


def boots_from_it_on_node2(cloud, served, tmp_path, settings):
    settings.IMAGE_STORE = tmp_path
    instance = cloud.launch(host=host(2), image=an_image(tmp_path), boot_from=Disk(size_gib=2, type=served))
    settle(cloud)
    assert works(io(tmp_path, told(cloud, 2, instance)["served"], "write -P 7 64k 64k"))
    return instance


def silence_node2(cloud):
    cloud.nodes[1].online = False
    HostPulse.objects.filter(host=host(2)).update(seen_at=Now() - timedelta(hours=1))


def settle_long(cloud):
    for _ in range(4):
        reconcile.reconcile()
        settle(cloud)


@pytest.mark.parametrize("data", ["", "served", "local"])
def test_an_instance_that_boots_from_it_goes_on_when_its_own_host_is_lost(
    two, served, settings, tmp_path, api, cloud_admin, data
):
    instance = boots_from_it_on_node2(two, served, tmp_path, settings)
    if data:
        attach(two, instance, make(two, name="data", **({"type": served} if data == "served" else {})))
    place = told(two, 2, instance)["served"]
    silence_node2(two)
    path = "hosts/node2/declare-lost"
    preview = api.as_(cloud_admin).post(f"{path}?dry_run=true", {"confirm": "node2"}).json()
    fates = {one["type"]: one["fate"] for one in preview["plan"]["at_stake"]}
    assert fates == {"instance": "taken_over"} | ({"volume": "lost"} if data == "local" else {})
    api.as_(cloud_admin).post(path, {"confirm": "node2"})
    settle_long(two)
    instance = Instance.objects.get()
    assert (instance.host, instance.seen, instance.failed_reason) == (host(1), "running", "")
    assert len(plugged(two, 1, instance)) == (2 if data == "served" else 1)
    assert not works(io(tmp_path, place, "write -P 9 64k 64k")), "the host before can write nothing any more"
    assert works(io(tmp_path, told(two, 1, instance)["served"], "read -P 7 64k 64k"))
    assert two.breaches() == []
    assert api.as_(cloud_admin).delete("hosts/node2").status_code == 204


def test_it_is_taken_from_a_silent_host_unless_its_storage_host_is_silent_too(two, served, settings, tmp_path):
    instance = boots_from_it_on_node2(two, served, tmp_path, settings)
    silence_node2(two)
    HostPulse.objects.filter(host=host(1)).update(seen_at=Now() - timedelta(hours=1))
    with pytest.raises(WrongState, match="storage host, which is not heard of"):
        two.do(take_it_over, instance)
    two.nodes[0].heartbeat()
    two.do(take_it_over, instance)
    settle(two)
    assert (Instance.objects.get().host, Instance.objects.get().seen) == (host(1), "running")
    two.nodes[1].online = True
    settle(two)
    assert two.nodes[1].hypervisor.running() == set(), "the host before ends what it had"
    assert two.breaches() == []


def test_an_instance_is_given_up_when_its_host_is_lost_with_its_storage_host(
    two, served, settings, tmp_path, api, cloud_admin
):
    boots_from_it_on_node2(two, served, tmp_path, settings)
    silence(two)
    silence_node2(two)
    for name in ("node2", "node1"):
        api.as_(cloud_admin).post(f"hosts/{name}/declare-lost", {"confirm": name})
    settle_long(two)
    instance = Instance.objects.get()
    assert (instance.machine, instance.wanted_power) == (None, "stopped")
    assert "lost with its host" in instance.failed_reason
    assert two.breaches() == []
