"""Volumes in Ceph, and what boots from them, taken from a host that is not heard of: a real cluster with two hosts."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from agent import faults
from cloud.hosts.models import Host
from compute import services
from compute.first_volumes import Disk
from compute.models import Instance
from compute.services.taking import take_it_over as take_instance
from storage import reconcile, specs
from storage.models import Layer, Volume, VolumeOnHost
from storage.services import taking
from storage.services.volumes import UnfitVolume, WrongState
from tests.storage.agent.test_rbd_owners import Writer
from tests.storage.ceph_clouds import attach, host, image_of, launched, now, plugged, reads
from tests.storage.clouds import do, make, settle
from tests.storage.scenarios import silence
from tests.storage.test_volumes import an_image

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quiet_bells")]


@pytest.fixture
def attached(two, in_ceph):
    """On the first host, of which nothing is heard, an instance has a volume."""
    volume, instance = make(two, type=in_ceph), launched(two, 1)
    attach(two, instance, volume)
    silence(two)
    return instance, volume


@pytest.fixture
def writer(two, attached):
    """Its guest, which writes on."""
    [disk] = specs.disks("instance", attached[0].pk, host(1).pk)
    one = Writer(two.nodes[0].kinds["volume"].layers.remote(disk, disk["rbd"]).connect(read_only=False))
    yield one
    one.end()


def test_its_guest_can_write_no_more_and_another_has_the_data(two, ceph, attached, writer):
    instance, volume = attached
    other = launched(two, 2)
    do(taking.take_it_over, volume=now(volume))
    settle(two)
    assert now(volume).active.host == host(2)
    assert (now(volume).active.taken_from, now(volume).active.term) == ([], 2)
    assert not writer.write(3)
    attach(two, other, volume)
    assert plugged(two, 2, other)[1] == volume.serial
    assert reads(ceph, volume, 1)
    two.nodes[0].online = True
    for _ in range(3):
        settle(two)
    assert volume.serial not in plugged(two, 1, instance).values()
    assert image_of(volume) in ceph.images()
    assert two.breaches() == []


@pytest.mark.parametrize("point", ["rbd.before_owner", "rbd.before_fence", "rbd.before_alone"])
def test_a_host_that_fails_while_it_takes_one_takes_it_again(two, ceph, attached, writer, monkeypatch, point):
    _, volume = attached
    with monkeypatch.context() as failing:
        failing.setenv("PILEUS_FAULT", f"refuse:{point}")
        do(taking.take_it_over, volume=now(volume))
        settle(two)
    assert point in faults.POINTS
    assert Layer.objects.get(pk=now(volume).active_id).taken_from, "it is still to be taken"
    VolumeOnHost.objects.update(seen_at=Now() - timedelta(hours=1))
    reconcile.volumes()
    settle(two)
    other = launched(two, 2)
    attach(two, other, volume)
    assert plugged(two, 2, other)[1] == volume.serial
    assert not writer.write(3)
    assert reads(ceph, volume, 1)


def test_an_instance_runs_on_another_host(two, in_ceph, ceph, settings, tmp_path):
    settings.IMAGE_STORE = tmp_path
    instance = two.launch(host=host(1), image=an_image(tmp_path), boot_from=Disk(size_gib=2, type=in_ceph))
    settle(two)
    silence(two)
    two.do(take_instance, instance)
    settle(two)
    moved = Instance.objects.get(pk=instance.pk)
    assert (moved.host, moved.seen, Volume.objects.get().active.host) == (host(2), "running", host(2))
    two.nodes[0].online = True
    settle(two)
    assert two.nodes[0].hypervisor.running() == set()
    assert two.breaches() == []


def test_agents_that_keep_nobody_out_take_nothing(two, attached):
    _, volume = attached
    for number, problem in (1, WrongState), (2, UnfitVolume):
        one = host(number)
        able = one.capabilities["volumes"]
        Host.objects.filter(pk=one.pk).update(
            capabilities={**one.capabilities, "volumes": {**able, "fences_in_ceph": False}}
        )
        with pytest.raises(problem, match="too old"):
            do(taking.take_it_over, volume=now(volume))
        Host.objects.filter(pk=one.pk).update(capabilities=one.capabilities)


def test_a_host_that_is_heard_of_loses_nothing(two, in_ceph):
    volume, instance = make(two, type=in_ceph), launched(two, 1)
    attach(two, instance, volume)
    with pytest.raises(WrongState, match="node1 is heard of"):
        do(taking.take_it_over, volume=now(volume))
    two.do(services.detach_volume, instance, volume=now(volume))
