"""Volumes in shared folders, and what boots from them, taken from a host that is not heard of."""

import re
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.test import Client

from agent.orders import revive
from agent.work import Work
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import services
from compute.agent.fencing import Fencing
from compute.agent.records import key
from compute.models import Instance
from compute.services.problems import WrongState as InstanceIs
from compute.services.taking import take_it_over as take_instance
from storage.models import Layer, Volume
from storage.services import moving, taking, volumes
from storage.services.volumes import UnfitVolume, WrongState
from tests.compute.scenarios import on_a_silent_host as boots_from_volume
from tests.storage.clouds import do, placed, second, settle
from tests.storage.scenarios import share_folder, silence

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


def host(number):
    return Host.objects.get(name=f"node{number}")


def now(row):
    return type(row).objects.get(pk=row.pk)


def beat(cloud, number):
    """One round of a node in the folder that it shares."""
    node = cloud.nodes[number - 1]
    Fencing(node, node.machines).beat()


def running(cloud, number):
    return cloud.nodes[number - 1].hypervisor.running()


def with_data(cloud):
    """On the first node, of which nothing is heard, an instance runs with its own disk and a volume in the folder."""
    volume = placed(cloud, type=share_folder(cloud))
    instance = cloud.launch(host=host(1))
    settle(cloud)
    cloud.do(services.attach_volume, instance, volume=now(volume))
    settle(cloud)
    silence(cloud)
    return instance, now(volume)


def test_an_instance_runs_on_another_host(cloud):
    instance = boots_from_volume(cloud)
    assert str(instance.pk) in running(cloud, 1)
    cloud.do(take_instance, instance)
    settle(cloud)
    assert (now(instance).host, now(instance).seen) == (host(2), "running")
    assert str(instance.pk) in running(cloud, 2)
    assert Volume.objects.get().active.host == host(2)
    beat(cloud, 1)
    assert running(cloud, 1) == set(), "it is ended on the host before, which has not heard of this cloud yet"
    cloud.nodes[0].online = True
    settle(cloud)
    assert (str(instance.pk) in running(cloud, 2), running(cloud, 1)) == (True, set())
    assert list(now(instance).machines.values_list("host__name", flat=True)) == ["node2"]
    assert cloud.breaches() == []


def test_what_is_ended_there_is_not_started_there_again(cloud):
    """Not by an order that the host has taken before, nor with its host."""
    instance = boots_from_volume(cloud)
    cloud.do(take_instance, instance)
    settle(cloud)
    beat(cloud, 1)
    node = cloud.nodes[0]
    node.machines.tools.records.interrupt(str(instance.pk))
    revive(node.tools, key(str(instance.pk)), Work())
    assert running(cloud, 1) == set()
    assert "another host has taken this volume over" in str(node.entry(str(instance.pk)).facts)


def test_a_stopped_one_stays_stopped(cloud):
    instance = boots_from_volume(cloud)
    Instance.objects.filter(pk=instance.pk).update(wanted_power="stopped")
    cloud.do(take_instance, instance)
    settle(cloud)
    assert (now(instance).host, now(instance).seen) == (host(2), "stopped")
    assert running(cloud, 2) == set()


def test_a_volume_is_taken_from_an_instance_that_stays(cloud):
    instance, volume = with_data(cloud)
    do(taking.take_it_over, volume=volume)
    settle(cloud)
    assert now(volume).active.host == host(2)
    assert not volume.attachments.exists()
    other = cloud.launch(host=host(2))
    settle(cloud)
    cloud.do(services.attach_volume, other, volume=now(volume))
    settle(cloud)
    assert volume.serial in cloud.nodes[1].hypervisor.disks(str(other.pk)).values()
    beat(cloud, 1)
    assert str(instance.pk) not in running(cloud, 1)
    cloud.nodes[0].online = True
    for _ in range(3):
        settle(cloud)
    assert now(instance).seen == "running"
    assert volume.serial not in cloud.nodes[0].hypervisor.disks(str(instance.pk)).values()
    assert cloud.breaches() == []


def test_what_was_taken_from_is_known_until_its_new_host_has_it(cloud):
    _, volume = with_data(cloud)
    cloud.nodes[1].online = False
    do(taking.take_it_over, volume=volume)
    name = cloud.nodes[0].kinds["volume"].layers.fences.host
    assert [str(one) for one in Layer.objects.get(pk=now(volume).active_id).taken_from] == [name]
    cloud.nodes[1].online = True
    settle(cloud)
    assert Layer.objects.get(pk=now(volume).active_id).taken_from == []
    assert Layer.objects.get(pk=now(volume).active_id).term == 2


def test_a_volume_is_deleted_though_the_host_that_it_left_is_gone(cloud):
    _, volume = with_data(cloud)
    do(taking.take_it_over, volume=volume)
    settle(cloud)
    do(volumes.delete, volume=now(volume))
    settle(cloud)
    assert not Volume.objects.exists()
    folder = cloud.home / "export"
    assert [list((folder / name).iterdir()) for name in ("volumes", "owners")] == [[], []]
    cloud.nodes[0].online = True
    settle(cloud)
    assert cloud.breaches() == []


def test_what_is_free_as_its_instance_was_deleted_there_is_waited_for_too(cloud):
    """The instance has gone from the rows, and may run on."""
    instance, volume = with_data(cloud)
    cloud.do(services.delete, instance)
    deleting = Operation.objects.get(kind="compute.delete")
    Operation.objects.filter(pk=deleting.pk).update(started_at=Now() - timedelta(minutes=5))
    engine.advance(deleting.pk)
    assert not Instance.objects.filter(pk=instance.pk).exists()
    do(moving.move, volume=now(volume))
    settle(cloud)
    assert now(volume).active.host == host(2)
    beat(cloud, 1)
    assert running(cloud, 1) == set(), "its new host has made itself the owner"
    assert cloud.breaches() == []


def test_what_cannot_be_taken_is_refused_in_words(cloud):
    kept = placed(cloud)
    instance, volume = with_data(cloud)
    with pytest.raises(WrongState, match="is on the disk of its host and nowhere else"):
        do(taking.take_it_over, volume=now(kept))
    with pytest.raises(InstanceIs, match="has its own disk on that host and nowhere else"):
        cloud.do(take_instance, instance)
    Host.objects.filter(name="node1").update(capabilities={**host(1).capabilities, "fence": None})
    with pytest.raises(WrongState, match="too old to be kept from writing"):
        do(taking.take_it_over, volume=volume)
    cloud.nodes[0].online = True
    cloud.nodes[0].heartbeat()
    with pytest.raises(WrongState, match="node1 is heard of"):
        do(taking.take_it_over, volume=volume)


def test_a_target_has_to_have_the_folder(cloud):
    _, volume = with_data(cloud)
    (second(cloud).paths.home / "pools" / "nfs").unlink()
    second(cloud).heartbeat()
    with pytest.raises(UnfitVolume, match="does not have the shared folder"):
        do(taking.take_it_over, volume=volume, host=host(2))


def test_what_an_instance_boots_from_goes_with_it(cloud):
    boots_from_volume(cloud)
    with pytest.raises(WrongState, match="boots from"):
        do(taking.take_it_over, volume=Volume.objects.get())


def test_the_api_tells_what_a_taking_over_would_do(cloud, api, cloud_admin):
    instance = boots_from_volume(cloud)
    volume = Volume.objects.get()
    path = f"projects/{cloud.project.name}/instances/{instance.name}/move?dry_run=true"
    answer = api.as_(cloud_admin).post(path, {"take_over": True})
    told = {"from": "node1", "to": "node2", "volumes": [volume.name], "bytes": 0}
    assert (answer.status_code, answer.json()["plan"]["move"]) == (202, told)
    assert now(instance).host == host(1)


def test_the_page_says_what_is_at_stake(cloud, cloud_admin):
    instance = boots_from_volume(cloud)
    page = Client()
    page.force_login(cloud_admin)
    address = f"/projects/{cloud.project.name}/instances/{instance.pk}/move"
    shown = page.get(address).content.decode()
    assert "Nothing is heard of node1" in shown
    assert f"Take {instance.name} over from there" in shown
    key = re.search(r'name="form_key" value="([^"]+)"', shown)[1]
    page.post(address, {"form_key": key, "host": "", "take_over": "on"})
    settle(cloud)
    assert (now(instance).host, now(instance).seen) == (host(2), "running")
