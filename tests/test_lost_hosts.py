"""Hosts that an admin declares lost: what was there is given up or goes on elsewhere, and the host can be removed."""

import re

import pytest

from agent.errors import DeclaredLost, Unreachable
from cloud.costs.models import Rental
from cloud.events.models import Event
from cloud.hosts import lost, reconcile
from cloud.hosts.models import Allocation, Host, Order
from cloud.operations import engine
from cloud.operations.models import Operation
from compute import services
from compute.agent.records import key
from compute.first_volumes import Disk
from compute.models import Instance, Machine
from storage import losing as storage_losing
from storage import troubles as storage_troubles
from storage.models import Layer, Snapshot, Volume, VolumeOnHost
from storage.services import moving, volumes
from storage.services.volumes import WrongState
from tests.compute.scenarios import on_a_silent_host as boots_from_volume
from tests.storage.clouds import do, kind_of, placed, second, settle
from tests.storage.scenarios import disk_image, share_folder, silence

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)
    monkeypatch.setattr("cloud.hosts.redis_acl.revoke", lambda login: None)


def now(row):
    return type(row).objects.get(pk=row.pk)


def host(number=1):
    return Host.objects.get(name=f"node{number}")


def lose(cloud, api, admin):
    """Of node1, until nothing more happens."""
    assert api.as_(admin).post("hosts/node1/declare-lost", {"confirm": "node1"}).json()["status"] == "lost"
    for _ in range(4):
        reconcile.reconcile()
        settle(cloud)


def is_empty():
    return not (
        Allocation.objects.filter(host=host()).exists()
        or Machine.objects.filter(host=host()).exists()
        or VolumeOnHost.objects.filter(host=host()).exists()
        or Layer.objects.filter(host=host()).exists()
        or Order.objects.filter(host=host(), answered_at=None).exists()
    )


def remove(api, admin):
    assert api.as_(admin).delete("hosts/node1").status_code == 204


def test_an_instance_is_lost_with_its_own_disk(cloud, api, cloud_admin):
    second(cloud)
    instance = cloud.launch(host=host())
    settle(cloud)
    silence(cloud)
    lose(cloud, api, cloud_admin)
    instance = now(instance)
    assert (instance.machine, instance.wanted_power) == (None, "stopped")
    assert "lost with its host" in instance.failed_reason
    assert Rental.objects.filter(resource_id=instance.pk).exists(), "what it has cost is known"
    assert is_empty()
    assert cloud.breaches() == []
    remove(api, cloud_admin)
    cloud.do(services.start, instance)
    settle(cloud)
    assert (now(instance).host, now(instance).seen, now(instance).failed_at) == (host(2), "running", None)
    assert cloud.breaches() == []


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("root", [None, Disk(size_gib=1)])
def test_what_was_made_for_it_is_lost_with_it(cloud, api, cloud_admin, monkeypatch, root, order):
    """In whatever order they are given up. So it starts with new ones under the same names."""
    kind_of(cloud)
    second(cloud)
    data, kept = Disk(size_gib=1, name="d3"), Disk(size_gib=1, name="kept", delete_with_instance=False)
    instance = cloud.launch(image=disk_image(cloud), boot_from=root, volumes=[data, kept], host=host())
    settle(cloud)
    names = set(Volume.objects.values_list("name", flat=True))
    silence(cloud)
    rows = lost._rows
    monkeypatch.setattr(lost, "_rows", lambda host: iter(list(rows(host))[::order]))
    lose(cloud, api, cloud_admin)
    assert now(instance).failed_at
    assert set(Volume.objects.values_list("name", "failed_reason")) == {("kept", storage_losing.LOST)}
    assert [case.words for case in storage_troubles.lost_volumes()[1]] == [storage_losing.LOST]
    cloud.do(services.start, instance)
    settle(cloud)
    assert (now(instance).host, now(instance).seen) == (host(2), "running")
    assert set(Volume.objects.values_list("name", flat=True)) == names | {"kept-2"}, "the lost one hinders nobody"
    assert cloud.breaches() == []


def test_it_is_deleted_at_once(cloud, api, cloud_admin):
    second(cloud)
    instance = cloud.launch(host=host())
    settle(cloud)
    silence(cloud)
    lose(cloud, api, cloud_admin)
    cloud.do(services.discard, instance)
    settle(cloud)
    assert not Instance.objects.exists()


@pytest.mark.parametrize("verb", [services.stop, services.discard, services.delete])
def test_what_waited_for_the_host_ends(cloud, api, cloud_admin, verb):
    second(cloud)
    instance = cloud.launch(host=host())
    settle(cloud)
    silence(cloud)
    cloud.do(verb, instance)
    lose(cloud, api, cloud_admin)
    assert not Operation.objects.filter(finished_at=None).exists()
    assert Instance.objects.exists() == (verb == services.stop)
    assert is_empty()
    assert cloud.breaches() == []
    remove(api, cloud_admin)


def test_an_instance_in_a_shared_folder_goes_on_elsewhere(cloud, api, cloud_admin):
    instance = boots_from_volume(cloud)
    lose(cloud, api, cloud_admin)
    assert (now(instance).host, now(instance).seen) == (host(2), "running")
    assert is_empty()
    assert cloud.breaches() == []
    remove(api, cloud_admin)


def test_it_waits_for_room_elsewhere(cloud, api, cloud_admin):
    instance = boots_from_volume(cloud)
    Host.objects.filter(name="node2").update(enabled=False)
    lose(cloud, api, cloud_admin)
    assert now(instance).host == host()
    assert api.as_(cloud_admin).delete("hosts/node1").status_code == 409
    Host.objects.filter(name="node2").update(enabled=True)
    reconcile.reconcile()
    settle(cloud)
    assert (now(instance).host, now(instance).seen) == (host(2), "running")


def test_a_volume_in_a_shared_folder_outlives_the_instance(cloud, api, cloud_admin):
    volume = placed(cloud, type=share_folder(cloud))
    instance = cloud.launch(host=host())
    settle(cloud)
    cloud.do(services.attach_volume, instance, volume=now(volume))
    settle(cloud)
    silence(cloud)
    lose(cloud, api, cloud_admin)
    assert now(volume).active.host == host(2)
    assert not volume.attachments.exists()
    assert now(instance).failed_at
    assert is_empty()
    assert cloud.breaches() == []


def test_a_volume_on_its_disk_is_lost_with_its_snapshots(cloud, api, cloud_admin):
    volume = placed(cloud)
    second(cloud)
    do(volumes.snapshot, volume=volume, name="kept")
    settle(cloud)
    other = do(volumes.create, project=cloud.project, name="clone", snapshot=Snapshot.objects.get())
    settle(cloud)
    silence(cloud)
    lose(cloud, api, cloud_admin)
    assert (now(volume).failed_reason, now(other).failed_reason) == (
        ("It was lost with its host. Restore a backup to a new volume.",) * 2
    )
    assert not Snapshot.objects.exists()
    assert is_empty()
    assert cloud.breaches() == []
    with pytest.raises(WrongState, match="has no data: It was lost"):
        do(volumes.snapshot, volume=volume, name="again")
    remove(api, cloud_admin)
    for one in (volume, other):
        do(volumes.delete, volume=now(one))
    settle(cloud)
    assert (Volume.objects.exists(), Layer.objects.exists()) == (False, False)
    told = Event.objects.filter(action="storage.volume.lose_with_host", project_id=cloud.project.pk)
    assert told.count() == 2


@pytest.mark.parametrize("shared", [False, True])
def test_a_volume_that_is_being_deleted_goes(cloud, api, cloud_admin, shared):
    volume = placed(cloud, **({"type": share_folder(cloud)} if shared else {}))
    second(cloud)
    silence(cloud)
    do(volumes.delete, volume=volume)
    lose(cloud, api, cloud_admin)
    assert not Volume.objects.exists()
    assert is_empty()
    if shared:
        assert list((cloud.home / "export" / "volumes").iterdir()) == []


@pytest.mark.parametrize("lost_end", ["source", "target"])
def test_a_move_from_it_or_to_it_is_given_up(cloud, api, cloud_admin, lost_end):
    volume = placed(cloud)
    second(cloud)
    if lost_end == "target":
        do(moving.move, volume=volume, host=host(2))
        settle(cloud)
        volume = now(volume)
    do(moving.move, volume=volume, host=host(2 if lost_end == "source" else 1))
    silence(cloud)
    lose(cloud, api, cloud_admin)
    assert not Operation.objects.filter(finished_at=None).exists()
    assert bool(now(volume).failed_reason) == (lost_end == "source")
    assert is_empty()
    assert cloud.breaches() == []
    remove(api, cloud_admin)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_host_that_comes_back_ends_what_it_has_and_may_do_nothing(cloud, api, cloud_admin, restarted):
    second(cloud)
    instance, interrupted = cloud.launch(host=host()), cloud.launch(host=host())
    settle(cloud)
    node = cloud.nodes[0]
    assert node.interrupt(node.ledger.get(key(str(interrupted.pk))), 0)
    node.send_reports()
    silence(cloud)
    lose(cloud, api, cloud_admin)
    assert node.hypervisor.running() == {str(instance.pk)}
    node = node.restart() if restarted else node
    node.online = True
    with pytest.raises(DeclaredLost, match="declared lost"):
        node.heartbeat()
    assert node.hypervisor.running() == set()
    node.revive()
    assert node.hypervisor.running() == set()
    node = node.restart()  # and it finds no control plane
    node.online, node._began = False, -1e9
    node.notice_all(thoroughly=True)
    node.revive()
    assert node.hypervisor.running() == set(), "what was interrupted with the host stays off"
    node.online = True
    with pytest.raises(Unreachable, match="declared lost.*wipe its home folder"):
        node.tools.control_plane.claim(1, "")
    assert api.as_(cloud_admin).post("hosts/node1/enable").status_code == 409


def test_it_has_to_be_silent_and_called_by_its_name(cloud, api, cloud_admin):
    second(cloud)
    admin = api.as_(cloud_admin)
    assert admin.post("hosts/node1/declare-lost", {"confirm": "node2"}).status_code == 400
    heard = admin.post("hosts/node1/declare-lost", {"confirm": "node1"})
    assert (heard.status_code, heard.json()["detail"]) == (
        409, "node1 is heard of. Drain and remove it, or switch it off before.",
    )  # fmt: skip
    silence(cloud)
    Host.objects.filter(name="node1").update(enabled=False)
    for _ in range(2):
        assert admin.post("hosts/node1/declare-lost", {"confirm": "node1"}).status_code == 200
    assert Event.objects.get(action="hosts.host.declare_lost").before == {"enabled": False}


def test_a_dry_run_tells_what_becomes_of_all(cloud, api, cloud_admin):
    volume = placed(cloud)
    instance = boots_from_volume(cloud)
    told = api.as_(cloud_admin).post("hosts/node1/declare-lost?dry_run=true", {"confirm": "node1"}).json()
    fates = {(one["type"], one["name"]): one["fate"] for one in told["plan"]["at_stake"]}
    assert fates[("instance", instance.name)] == "taken_over"
    assert fates[("volume", volume.name)] == "lost"
    assert host().lost_at is None
    assert told["plan"]["at_stake"][0]["project"] == cloud.project.name


def unshare(cloud):
    """The folder is there no more: no host but the silent one has said that it reaches it."""
    pools = cloud.nodes[1].paths.home / "pools" / "nfs"
    pools.unlink()
    cloud.nodes[1].heartbeat()


@pytest.mark.parametrize("is_deleted", [False, True])
def test_what_no_other_host_reaches_waits_until_it_is_given_up(cloud, api, cloud_admin, is_deleted):
    volume = placed(cloud, type=share_folder(cloud))
    do(volumes.snapshot, volume=volume, name="kept")
    settle(cloud)
    silence(cloud)
    unshare(cloud)
    if is_deleted:
        do(volumes.delete, volume=volume, cascade=True)
    assert api.as_(cloud_admin).post("hosts/node1/declare-lost", {"confirm": "node1"}).status_code == 200
    reconcile.reconcile()
    assert now(volume).active.host == host()
    if is_deleted:
        engine.advance(Operation.objects.get(finished_at=None).pk)
        assert "an admin can give it up" in Operation.objects.get(finished_at=None).reason
    asked = {"confirm": "node1", "leave_behind": True}
    told = api.as_(cloud_admin).post("hosts/node1/declare-lost?dry_run=true", asked).json()
    assert (volume.name, "lost") in {(one["name"], one["fate"]) for one in told["plan"]["at_stake"]}
    assert not host().leaves_behind
    for _ in range(2):
        assert api.as_(cloud_admin).post("hosts/node1/declare-lost", asked).status_code == 200
    lose(cloud, api, cloud_admin)
    if is_deleted:
        assert not Volume.objects.exists()
    else:
        assert now(volume).failed_reason == storage_losing.LEFT_BEHIND
        assert Event.objects.get(action="storage.volume.lose_with_host").before["tree"], "what is left can be found"
        do(volumes.delete, volume=now(volume))
        settle(cloud)
    assert not any(model.objects.exists() for model in (Volume, Layer, Snapshot))
    assert Event.objects.filter(action="hosts.host.leave_behind").count() == 1
    assert is_empty()
    assert cloud.breaches() == []
    remove(api, cloud_admin)


def test_what_another_host_reaches_is_not_given_up(cloud, api, cloud_admin):
    volume = placed(cloud, type=share_folder(cloud))
    silence(cloud)
    asked = {"confirm": "node1", "leave_behind": True}
    assert api.as_(cloud_admin).post("hosts/node1/declare-lost", asked).status_code == 200
    lose(cloud, api, cloud_admin)
    assert (now(volume).active.host, now(volume).failed_reason) == (host(2), "")


def test_an_instance_whose_root_is_given_up_is_lost_with_it(cloud, api, cloud_admin):
    instance = boots_from_volume(cloud)
    unshare(cloud)
    lose(cloud, api, cloud_admin)
    assert now(instance).host == host()
    asked = {"confirm": "node1", "leave_behind": True}
    assert api.as_(cloud_admin).post("hosts/node1/declare-lost", asked).status_code == 200
    lose(cloud, api, cloud_admin)
    assert "lost with its host" in now(instance).failed_reason
    assert is_empty()
    assert cloud.breaches() == []
    remove(api, cloud_admin)


def test_the_page_of_a_lost_host_gives_up_the_rest(client, cloud, cloud_admin, api):
    volume = placed(cloud, type=share_folder(cloud))
    silence(cloud)
    unshare(cloud)
    lose(cloud, api, cloud_admin)
    client.force_login(cloud_admin)
    assert "Give up the rest" in client.get(f"/cloud/hosts/{host().pk}").content.decode()
    path = f"/cloud/hosts/{host().pk}/declare-lost"
    page = client.get(path).content.decode()
    assert "Give up what is left on node1?" in page
    key = re.search(r'name="form_key" value="([^"]+)"', page)[1]
    assert client.post(path, {"confirm": "node1", "leave_behind": "on", "form_key": key}).status_code in (200, 302, 303)
    assert host().leaves_behind
    assert "Give up the rest" not in client.get(f"/cloud/hosts/{host().pk}").content.decode()
    lose(cloud, api, cloud_admin)
    assert now(volume).failed_reason == storage_losing.LEFT_BEHIND
