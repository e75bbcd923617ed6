"""What is seen is not what is wanted: drift, restored databases, hosts that forget, strangers on hosts."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now

from cloud.events.models import Event
from cloud.hosts import services as hosts
from cloud.hosts.models import Allocation, Host, HostPulse, Order
from cloud.hosts.reconcile import reconcile
from cloud.operations.models import Operation
from compute import hosted, services
from compute.models import Instance, Machine, Power
from tests.clouds import ALICE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.fixture
def instance(cloud):
    made = cloud.launch(name="web")
    cloud.settle()
    return Instance.objects.get(pk=made.pk)


def test_a_machine_that_runs_although_it_should_not_is_stopped(cloud, instance):
    Instance.objects.update(wanted_power=Power.STOPPED)
    reconcile()
    assert Operation.objects.get(finished_at=None).kind == "compute.stop"
    cloud.settle()
    instance.refresh_from_db()
    assert (instance.seen, cloud.running()) == ("stopped", set())
    assert cloud.breaches() == []


def test_nothing_is_opened_while_all_is_well_or_something_is_under_way(cloud, instance):
    reconcile()
    assert not Operation.objects.filter(finished_at=None).exists()
    cloud.do(services.stop, instance)
    reconcile()
    assert Operation.objects.filter(finished_at=None).count() == 1


def test_nothing_is_done_about_a_host_that_is_away(cloud, instance):
    Instance.objects.update(wanted_power=Power.STOPPED)
    HostPulse.objects.update(seen_at=Now() - timedelta(minutes=5))
    reconcile()
    assert not Operation.objects.filter(finished_at=None).exists()


def test_a_machine_that_its_host_no_longer_lists_is_made_again(cloud, instance):
    HostPulse.objects.update(inventory=[], seen_at=Now() + timedelta(seconds=21))
    reconcile()
    instance.refresh_from_db()
    assert instance.seen == "gone"
    assert Operation.objects.get(finished_at=None).kind == "compute.start"
    cloud.settle()
    assert cloud.running() == {str(instance.pk)}


def test_a_suspended_machine_whose_memory_is_lost_with_its_host_is_stopped(cloud, instance):
    cloud.do(services.suspend, instance)
    cloud.settle()
    HostPulse.objects.update(inventory=[], seen_at=Now() + timedelta(seconds=21))
    reconcile()
    assert Operation.objects.get(finished_at=None).kind == "compute.stop"
    cloud.settle()
    instance.refresh_from_db()
    assert (instance.seen, instance.wanted_power) == ("stopped", "stopped")


def test_memory_that_may_still_be_there_is_not_given_up(cloud, instance):
    cloud.do(services.suspend, instance)
    cloud.settle()
    Machine.objects.update(seen=Power.UNKNOWN)
    reconcile()
    assert not Operation.objects.filter(finished_at=None).exists()


def test_after_a_restored_database_the_row_overtakes_the_hosts_ledger(cloud, instance):
    for verb in (services.stop, services.start):
        cloud.do(verb, instance)
        cloud.settle()
    Instance.objects.update(wanted_power=Power.STOPPED)
    Machine.objects.update(generation=1, seen_generation=1, seen_sequence=0)
    cloud.do(services.stop, instance)
    cloud.settle()
    instance.refresh_from_db()
    assert (instance.seen, cloud.running()) == ("stopped", set())
    assert instance.generation > 3
    assert cloud.breaches() == []


def test_a_ledger_that_cannot_be_believed_quarantines_its_host(cloud, instance):
    report = {
        "resource": {"type": "instance", "id": str(instance.pk)},
        "generation": instance.generation,
        "sequence": 10**6,
        "seen": "running",
        "facts": {"refused": {"ledger_generation": 10**9}},
    }
    assert cloud.node.control_plane.report(report) == "outdated"
    assert "10" in Host.objects.get().quarantined
    assert cloud.launch(wanted_power="running").host is None
    with transaction.atomic():
        hosts.update(Host.objects.get(), actor=ALICE, enabled=True)
    assert Host.objects.get().quarantined == ""
    cloud.settle()
    assert Instance.objects.filter(machine=None).count() == 0


def test_a_stranger_on_a_host_is_paused_kept_and_removed_only_by_repair(cloud, instance):
    Order.objects.all().delete()
    Allocation.objects.all().delete()
    Instance.objects.all().delete()
    cloud.node.heartbeat()
    assert cloud.running() == {str(instance.pk)}, "a heartbeat destroys nothing"
    cloud.node.heartbeat()
    breach = next(breach for breach in cloud.breaches() if "belongs to no instance" in breach.words)
    assert "quarantined" in breach.words
    breach.repair()
    cloud.node.look()
    cloud.node.heartbeat()
    assert cloud.running() == set()
    assert [breach for breach in cloud.breaches() if breach.subject_id == str(instance.pk)] == []


def test_an_old_report_changes_nothing(cloud, instance):
    cloud.do(services.stop, instance)
    late = {
        "resource": {"type": "instance", "id": str(instance.pk)},
        "generation": 1,
        "sequence": 10**6,
        "seen": "running",
        "facts": {},
    }
    assert cloud.node.control_plane.report(late) == "outdated"
    cloud.settle()
    instance.refresh_from_db()
    assert instance.seen == "stopped"


def test_another_hosts_report_is_not_believed(cloud, instance):
    other = cloud.add_node("other")
    forged = {
        "resource": {"type": "instance", "id": str(instance.pk)},
        "generation": instance.generation,
        "sequence": 10**6,
        "seen": "gone",
        "facts": {},
    }
    assert other.control_plane.report(forged) == "outdated"
    instance.refresh_from_db()
    assert instance.seen == "running"


def test_with_restart_policy_never_a_crash_leaves_it_stopped(cloud):
    made = cloud.launch(restart_policy="never")
    cloud.settle()
    cloud.node.hypervisor.crash(str(made.pk))
    cloud.node.look()
    made.refresh_from_db()
    assert (made.seen, made.wanted_power) == ("stopped", "stopped")
    assert "unexpectedly" in made.seen_problem


def test_with_restart_policy_always_even_a_clean_power_off_is_followed_by_a_start(cloud):
    made = cloud.launch(restart_policy="always")
    cloud.settle()
    cloud.node.hypervisor.power_off(str(made.pk))
    cloud.node.look()
    cloud.settle()
    assert cloud.node.hypervisor.starts(str(made.pk)) == 2
    assert cloud.breaches() == []


def test_a_rebuilt_image_changes_nothing_for_instances_that_are_there(cloud, instance):
    before = hosted.spec(Machine.objects.get(instance=instance), "ensure_running")["image"]
    cloud.image.files = [{"role": "kernel", "sha256": "0" * 64, "size": 1, "format": None}]
    cloud.image.kernel_command_line = "another"
    cloud.image.save()
    assert hosted.spec(Machine.objects.get(instance=instance), "ensure_running")["image"] == before


def test_room_that_was_lost_is_booked_again(cloud, instance):
    Allocation.objects.all().delete()
    (breach,) = cloud.breaches()
    assert breach.words == f"web is on {instance.host}, but has no capacity allocated there"
    breach.repair()
    assert cloud.breaches() == []
    assert Allocation.of("instance", instance.pk).get().memory_mib == instance.memory_mib
    assert Event.objects.filter(action="compute.instance.allocate", subject_name="web").count() == 1


def test_room_is_not_booked_again_where_there_is_none(cloud, instance):
    Allocation.objects.all().delete()
    Host.objects.update(memory_mib=instance.memory_mib - 1)
    (breach,) = cloud.breaches()
    assert (breach.repair, "has no room for it" in breach.advice) == (None, True)


def test_a_host_that_shrank_below_what_it_holds_is_told_of_with_what_to_do(cloud, instance):
    Host.objects.update(memory_mib=instance.memory_mib - 1)
    (breach,) = cloud.breaches()
    assert (breach.repair, "Cordon it" in breach.advice) == (None, True)


def test_room_that_nobody_owns_is_given_back_once_its_machine_is_gone(cloud, instance):
    free = Host.objects.get().free_memory_mib
    Allocation.objects.update(resource_id=uuid4())
    breach = next(breach for breach in cloud.breaches() if "belongs to no instance" in breach.words)
    HostPulse.objects.update(seen_at=Now() - timedelta(minutes=5))
    away = next(breach for breach in cloud.breaches() if "belongs to no instance" in breach.words)
    assert (away.repair, "is unreachable" in away.advice) == (None, True)
    breach.repair()
    assert Host.objects.get().free_memory_mib == free + instance.memory_mib


def test_of_a_machine_that_runs_twice_the_one_that_no_row_owns_is_removed(cloud, instance):
    cloud.add_node("other")
    HostPulse.objects.filter(host__name="other").update(inventory=HostPulse.objects.get(host=instance.host).inventory)
    breach = next(breach for breach in cloud.breaches() if "at once" in breach.words)
    breach.repair()
    order = Order.objects.get(answered_at=None)
    assert (order.host.name, order.verb, order.resource_id) == ("other", "ensure_gone", instance.pk)
