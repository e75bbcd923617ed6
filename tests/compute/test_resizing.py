"""Another flavor for an instance: size, room, quota and price change together, and its disk grows."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models import F
from django.db.models.functions import Now

from agent.errors import Refused
from cloud.costs import sums
from cloud.costs.models import Rental
from cloud.events.models import Event
from cloud.hosts.models import Allocation, Host
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.tenancy import quota
from cloud.tenancy.models import Quota
from cloud.tenancy.quota import OverQuota
from compute import hosted, services
from compute.models import Flavor, Instance
from compute.services.problems import NoCapacity, UnfitFlavor, WrongState
from network.models import Port
from network.services import networks
from storage.agent import qcow2
from storage.models import Image, Volume
from storage.services import attaching
from storage.services.attaching import Holder
from tests import factories
from tests.clouds import ALICE
from tests.storage.clouds import do, placed

pytestmark = pytest.mark.django_db(transaction=True)
GIB = 1 << 30


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def large():
    return factories.flavor(
        "large", vcpus=2, memory_mib=512, disk_gib=3, network_mbps=100, price_per_hour=Decimal("0.5")
    )


@pytest.fixture
def web(cloud):
    """Stopped, with a NIC, and a disk on its host."""
    do(networks.create, project=cloud.project, name="default")
    instance = cloud.launch(name="web")
    cloud.settle()
    cloud.do(services.stop, instance)
    cloud.settle()
    return instance


def now(instance):
    return Instance.objects.select_related("flavor", "machine__host").get(pk=instance.pk)


def size(instance):
    found = now(instance)
    return found.flavor.name, found.vcpus, found.memory_mib, found.disk_gib


def room(instance):
    return Allocation.of("instance", instance.pk).values_list("vcpus", "memory_mib", "disk_gib").get()


def disk_bytes(cloud, instance):
    return qcow2.virtual_size(cloud.node.home(str(instance.pk)).disk, "qcow2")


def before(cloud):
    return cloud.flavor.name, 1, 256, 1


def outcome(operation):
    operation.refresh_from_db()
    return operation.outcome


def test_a_stopped_one_gets_all_that_the_flavor_has(cloud, web, large):
    operation = cloud.do(services.resize, web, flavor=large)
    cloud.settle()
    assert outcome(operation) == "done"
    assert size(web) == ("large", 2, 512, 3)
    assert room(web) == (2, 512, 3)
    assert disk_bytes(cloud, web) == 3 * GIB
    assert Port.objects.get(holder_id=web.pk).mbps == 100
    assert cloud.running() == set()
    event = Event.objects.get(action="compute.instance.resize")
    assert (event.before["flavor"], event.before["vcpus"], event.before["disk_gib"]) == (cloud.flavor.name, 1, 1)
    assert (event.after["flavor"], event.after["vcpus"], event.after["disk_gib"]) == ("large", 2, 3)
    cloud.do(services.start, web)
    cloud.settle()
    spec = hosted.spec(now(web).machine, "ensure_running")
    assert (spec["vcpus"], spec["memory_mib"], spec["disk_gib"]) == (2, 512, 3)
    assert cloud.breaches() == []


def test_one_that_runs_is_resized_by_a_restart_only(cloud, web, large):
    cloud.do(services.start, web)
    cloud.settle()
    with pytest.raises(WrongState, match="only while it is stopped"):
        cloud.do(services.resize, web, flavor=large)
    starts = cloud.node.hypervisor.starts(str(web.pk))
    operation = cloud.do(services.resize, web, flavor=large, restart=True)
    cloud.settle()
    assert (outcome(operation), now(web).seen, now(web).wanted_power) == ("done", "running", "running")
    assert cloud.node.hypervisor.starts(str(web.pk)) == starts + 1
    assert disk_bytes(cloud, web) == 3 * GIB


def test_a_restart_leaves_what_is_stopped_stopped(cloud, web, large):
    cloud.do(services.resize, web, flavor=large, restart=True)
    cloud.settle()
    assert (now(web).seen, now(web).wanted_power) == ("stopped", "stopped")


def test_one_that_was_never_started_begins_with_its_new_disk(cloud, large):
    never = cloud.launch(wanted_power="stopped")
    cloud.settle()
    cloud.do(services.resize, never, flavor=large)
    cloud.settle()
    cloud.do(services.start, never)
    cloud.settle()
    assert disk_bytes(cloud, never) == 3 * GIB


def test_vcpus_and_memory_may_become_less_and_the_disk_never(cloud, web, large):
    cloud.do(services.resize, web, flavor=large)
    cloud.settle()
    factories.flavor("lean", vcpus=1, memory_mib=128, disk_gib=3)
    Flavor.objects.create(name="retired", vcpus=1, memory_mib=1024, disk_gib=9, enabled=False)
    with pytest.raises(UnfitFlavor, match="1 GiB of disk and web has 3 GiB.* These fit: lean") as refusal:
        cloud.do(services.resize, web, flavor=cloud.flavor)
    assert [fault.pointer for fault in refusal.value.errors] == ["/flavor"]
    with pytest.raises(UnfitFlavor, match="retired is not offered any more"):
        cloud.do(services.resize, web, flavor=Flavor.objects.get(name="retired"))
    cloud.do(services.resize, web, flavor=Flavor.objects.get(name="lean"))
    cloud.settle()
    assert (size(web), room(web)) == (("lean", 1, 128, 3), (1, 128, 3))
    assert disk_bytes(cloud, web) == 3 * GIB
    assert cloud.breaches() == []


def test_what_the_image_needs_stays(cloud, web):
    Image.objects.update(min_memory_mib=256)
    with pytest.raises(UnfitFlavor, match="needs 256 MiB of memory; poor has 128"):
        cloud.do(services.resize, web, flavor=factories.flavor("poor", memory_mib=128))


def test_a_volume_that_it_boots_from_keeps_its_size(cloud, web, large):
    root = placed(cloud, name="root")
    do(attaching.attach, volume=root, holder=Holder("instance", web.pk, "web", 0))
    Instance.objects.update(disk_gib=0)
    Allocation.of("instance", web.pk).update(disk_gib=0)
    cloud.do(services.resize, web, flavor=large)
    cloud.settle()
    assert (size(web), room(web)) == (("large", 2, 512, 0), (2, 512, 0))
    assert Volume.objects.get().size_gib == 1
    assert cloud.breaches() == []


def test_its_host_must_have_room_for_the_difference(cloud, web, large):
    host = Host.objects.get()
    Allocation.objects.create(
        resource_type="other", resource_id=cloud.project.pk, host=host, memory_mib=host.free_memory_mib - 255
    )
    with pytest.raises(NoCapacity, match="has no room for large.*move"):
        cloud.do(services.resize, web, flavor=large)
    assert (size(web), room(web)) == (before(cloud), (1, 256, 1))
    assert not Operation.objects.filter(finished_at=None).exists()
    Allocation.objects.filter(resource_type="other").update(memory_mib=F("memory_mib") - 1)
    cloud.do(services.resize, web, flavor=large)
    cloud.settle()
    assert Host.objects.get().free_memory_mib == 0


def test_the_quota_is_asked_for_the_difference(cloud, web, large):
    limits = {"vcpus": 2, "memory_mib": 511}
    Quota.objects.update(limits=limits)
    with pytest.raises(OverQuota, match="memory_mib: 256 more asked, 256 of 511 used"):
        cloud.do(services.resize, web, flavor=large)
    Quota.objects.update(limits=limits | {"memory_mib": 512, "disk_gib": 1})
    with pytest.raises(OverQuota, match="disk_gib"):
        cloud.do(services.resize, web, flavor=large)
    Quota.objects.update(limits=limits | {"memory_mib": 512})
    cloud.do(services.resize, web, flavor=large)
    cloud.settle()
    assert size(web)[0] == "large"


def test_it_costs_the_new_price_from_now_on(cloud, web, large):
    Instance.objects.update(price_per_hour="2")
    Allocation.objects.update(created_at=Now() - timedelta(hours=3))
    cloud.do(services.resize, web, flavor=large)
    cloud.settle()
    rental = Rental.objects.get()
    hours = (rental.ended_at - rental.began_at) / timedelta(hours=1)
    assert (rental.size, rental.price_per_hour, round(hours, 2)) == (cloud.flavor.name, 2, 3.0)
    gap = Allocation.of("instance", web.pk).get().created_at - rental.ended_at
    assert timedelta(0) <= gap < timedelta(minutes=1), "nothing is paid twice"
    assert sums.of(cloud.project).per_hour == large.price_per_hour == now(web).price_per_hour


def test_the_same_flavor_takes_over_what_it_has_come_to_mean(cloud, web):
    Flavor.objects.update(memory_mib=384, price_per_hour="1")
    cloud.do(services.resize, web, flavor=Flavor.objects.get())
    cloud.settle()
    assert (now(web).memory_mib, now(web).price_per_hour) == (384, 1)


def test_a_host_that_cannot_grow_the_disk_leaves_the_flavor_before(cloud, web, large, monkeypatch):
    def refuse(path, size):
        raise Refused("the host's disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(qcow2, "grow", refuse)
        operation = cloud.do(services.resize, web, flavor=large)
        cloud.settle()
    assert (outcome(operation), operation.reason) == ("failed", "the host's disk is full")
    assert (size(web), room(web)) == (before(cloud), (1, 256, 1))
    assert sums.of(cloud.project).per_hour == 0
    assert Port.objects.get(holder_id=web.pk).mbps is None
    assert now(web).seen == "stopped"
    assert cloud.breaches() == []
    cloud.do(services.resize, web, flavor=large)  # by repeating
    cloud.settle()
    assert (size(web)[0], disk_bytes(cloud, web)) == ("large", 3 * GIB)


def test_until_its_host_is_ordered_a_cancel_leads_back(cloud, web, large):
    operation = cloud.do(services.resize, web, flavor=large)
    assert room(web) == (2, 512, 3)
    engine.cancel(operation.pk, actor=ALICE)
    cloud.settle()
    assert (outcome(operation), size(web), room(web)) == ("cancelled", before(cloud), (1, 256, 1))
    assert disk_bytes(cloud, web) == GIB
    assert cloud.breaches() == []


def test_what_a_silent_host_may_have_grown_stays(cloud, web, large):
    cloud.node.online = False
    operation = cloud.do(services.resize, web, flavor=large)
    engine.advance(operation.pk)
    with pytest.raises(engine.NotCancelable):
        engine.cancel(operation.pk, actor=ALICE)
    Operation.objects.update(deadline_at=Now() - timedelta(minutes=1), due_at=Now())
    engine.advance(operation.pk)
    cloud.node.online = True
    cloud.settle()
    assert (outcome(operation), size(web), room(web)) == ("failed", ("large", 2, 512, 3), (2, 512, 3))
    assert disk_bytes(cloud, web) == 3 * GIB
    assert cloud.breaches() == []


def test_less_memory_is_given_back_only_when_it_is_sure(cloud, web):
    operation = cloud.do(services.resize, web, flavor=factories.flavor("lean", memory_mib=128))
    assert room(web) == (1, 256, 1)
    engine.cancel(operation.pk, actor=ALICE)
    cloud.settle()
    assert (outcome(operation), size(web)) == ("cancelled", before(cloud))
    cloud.do(services.resize, web, flavor=Flavor.objects.get(name="lean"))
    cloud.settle()
    assert room(web) == (1, 128, 1)


def test_what_a_cancel_leads_back_to_stays_in_the_quota(cloud, web):
    Quota.objects.update(limits={"vcpus": 3, "memory_mib": 256})
    lean = cloud.flavor = factories.flavor("lean", memory_mib=128)
    operation = cloud.do(services.resize, web, flavor=lean)
    with pytest.raises(OverQuota, match="memory_mib: 128 more asked, 256 of 256 used"):
        cloud.launch(name="other")
    engine.cancel(operation.pk, actor=ALICE)
    cloud.settle()
    assert quota.usage(cloud.project)["memory_mib"]["used"] == 256
    cloud.do(services.resize, web, flavor=lean)
    cloud.settle()
    cloud.launch(name="other")
    assert quota.usage(cloud.project)["memory_mib"]["used"] == 256


def test_an_agent_that_is_too_old_to_grow_disks_is_not_asked(cloud, web, large):
    host = Host.objects.get()
    host.capabilities.pop("resizes")
    host.save(update_fields=["capabilities"])
    with pytest.raises(UnfitFlavor, match="too old to grow its disk"):
        cloud.do(services.resize, web, flavor=large)
    cloud.do(services.resize, web, flavor=factories.flavor("same-disk", vcpus=2))
    cloud.settle()
    assert size(web)[0] == "same-disk"


def test_nothing_is_resized_while_an_image_is_made_of_it(cloud, web, large):
    factories.image("copy", status="importing", source={"id": str(web.pk)})
    with pytest.raises(WrongState, match="image copy is being made of web"):
        cloud.do(services.resize, web, flavor=large)


def test_it_goes_from_the_size_that_the_work_before_it_left(cloud, web, large, monkeypatch):
    begin = engine.start

    def after_waiting(*args, **kwargs):
        Instance.objects.update(memory_mib=128)  # as by another resize, which is taken back just now
        return begin(*args, **kwargs)

    monkeypatch.setattr(engine, "start", after_waiting)
    operation = cloud.do(services.resize, web, flavor=large)
    assert operation.before["size"]["memory_mib"] == 128
    assert Event.objects.get(action="compute.instance.resize").before["memory_mib"] == 128


def test_a_dry_run_says_what_would_change(cloud, web, large, api):
    mia = api.as_(factories.member(cloud.project))
    path = f"projects/{cloud.project.name}/instances/web"
    answer = mia.post(f"{path}/resize?dry_run=true", {"flavor": "large"}).json()
    [change] = [one for one in answer["plan"]["changed"] if one["type"] == "instance"]
    assert (change["before"]["memory_mib"], change["after"]["memory_mib"]) == (256, 512)
    assert (float(change["before"]["price_per_hour"]), float(change["after"]["price_per_hour"])) == (0, 0.5)
    assert answer["plan"]["quota"]["after"]["vcpus"]["used"] == 2
    assert size(web) == before(cloud)
    assert mia.post(f"{path}/resize", {"flavor": "nothing"}).status_code == 400
    stale = mia.post(f"{path}/resize", {"flavor": "large"}, headers={"If-Match": '"old"'})
    assert stale.status_code == 412


def test_its_dialog_offers_what_fits(cloud, web, large, client):
    factories.flavor("vast", memory_mib=1 << 20, disk_gib=3)
    factories.flavor("flat", memory_mib=1024, price_per_hour="0.25")
    Quota.objects.update(limits={"vcpus": None, "memory_mib": 1000})
    client.force_login(factories.member(cloud.project))
    page = client.get(f"/projects/{cloud.project.name}/instances/{web.pk}/resize").content.decode()
    [choice] = re.findall(r'<label class="choice">\s*<input[^>]*value="large".*?</label>', page, re.DOTALL)
    assert "0.50" in choice
    assert "an hour more" in choice
    assert "disabled" not in choice
    for name, words in (
        ("vast", "Its host has no room for it."),
        ("flat", "The quota has 744 MiB of memory left."),
        (cloud.flavor.name, "It has this flavor."),
    ):
        [choice] = re.findall(rf'<label class="choice">\s*<input[^>]*value="{name}".*?</label>', page, re.DOTALL)
        assert "disabled" in choice
        assert words in choice
