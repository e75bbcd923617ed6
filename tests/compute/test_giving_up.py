"""What the cloud does by itself and gives up is said: on the instance, in the log, on the health page."""

import pytest
from django.db import transaction

from cloud.events.models import Event
from cloud.hosts.models import Host
from cloud.operations import engine
from cloud.operations.clock import forget_failure, note_failure
from cloud.operations.models import Operation
from cloud.operations.troubles import troubles
from cloud.problems import Problem
from compute import reconcile, restarts, services, status
from compute.models import Instance, Machine
from compute.verbs import VERBS
from network.models import NetworkOnHost
from network.services import networks
from tests import factories
from tests.clouds import ALICE

pytestmark = pytest.mark.django_db(transaction=True)


def shown(instance) -> tuple[str, str]:
    row = status.with_status(Instance.objects.select_related("machine__host")).get(pk=instance.pk)
    return row.status, status.reason(row)


def told_on_health(title: str) -> str:
    return " ".join(case.words for trouble in troubles() if trouble.title.startswith(title) for case in trouble.cases)


def waiting_for_room(cloud) -> Instance:
    cloud.flavor = factories.flavor(memory_mib=16000)
    assert cloud.launch().host
    waiting = cloud.launch()
    for operation in Operation.objects.filter(subject_id=waiting.pk):
        engine.advance(operation.pk)
    assert shown(waiting)[0] == "queued"
    return waiting


@pytest.fixture
def instance(cloud):
    made = cloud.launch()
    cloud.settle()
    made.refresh_from_db()
    return made


def test_a_restart_by_policy_that_fails_leaves_the_reason(cloud, instance):
    cloud.node.hypervisor.broken = "no memory left on the host"
    cloud.node.hypervisor.crash(str(instance.pk))
    cloud.node.look()
    cloud.settle()
    seen, reason = shown(instance)
    assert seen == "error"
    assert "no memory left on the host" in reason
    assert "To try again, start it." in reason
    assert "no memory left" in told_on_health("Instances in error")
    event = Event.objects.get(action="compute.instance.give_up")
    assert (event.actor, event.subject_name) == ("system", instance.name)
    cloud.settle()
    assert shown(instance) == (seen, reason), "it stays said"


def test_what_was_given_up_is_over_with_the_next_verb(cloud, instance):
    cloud.node.hypervisor.broken = "no memory left on the host"
    cloud.node.hypervisor.crash(str(instance.pk))
    cloud.node.look()
    cloud.settle()
    cloud.node.hypervisor.broken = ""
    cloud.do(services.start, instance)
    cloud.settle()
    assert shown(instance) == ("running", "")
    assert told_on_health("Instances in error") == ""


@pytest.mark.parametrize("wanted", [name for name, verb in VERBS.items() if verb.restores])
def test_whatever_the_reconciler_cannot_make_true_is_said(cloud, instance, wanted, monkeypatch):
    """The kind: every operation that the cloud began by itself and that fails."""
    power = VERBS[wanted].restores
    seen = "stopped" if power == "running" else "running"
    Machine.objects.update(seen=seen)
    Instance.objects.update(wanted_power=power)
    reconcile.reconcile()
    operation = Operation.objects.get(finished_at=None)
    assert operation.requested_by == "system"
    Operation.objects.update(deadline_at="2020-01-01T00:00Z")
    cloud.settle()
    assert shown(instance)[0] == "error"
    assert "gave up after" in shown(instance)[1]
    assert Event.objects.filter(action="compute.instance.give_up").count() == 1


def test_a_verb_of_a_user_that_fails_is_told_by_its_operation_alone(cloud, instance):
    cloud.do(services.stop, instance)
    cloud.settle()
    cloud.node.hypervisor.broken = "no memory left on the host"
    cloud.do(services.start, instance)
    cloud.settle()
    assert "no memory left" in Operation.objects.latest("started_at").reason
    assert not Event.objects.filter(action="compute.instance.give_up").exists()


def test_one_that_ends_again_and_again_is_given_up_with_words_and_an_event(cloud, instance):
    for _ in range(restarts.MAX_RESTARTS_PER_HOUR + 1):
        cloud.node.hypervisor.crash(str(instance.pk))
        cloud.node.look()
        cloud.settle()
    assert "5 times within an hour" in shown(instance)[1]
    assert Event.objects.filter(action="compute.instance.give_up").count() == 1
    assert cloud.breaches() == []


@pytest.mark.parametrize("verb", [name for name in VERBS if name != "clone"])
def test_a_verb_on_a_launch_that_waits_for_room_leaves_nothing_half_way(cloud, verb):
    """Each either refuses, or ends in a state that says what it is."""
    waiting = waiting_for_room(cloud)
    with transaction.atomic():
        try:
            VERBS[verb].service(instance=Instance.objects.get(pk=waiting.pk), actor=ALICE)
        except Problem:
            return
    for operation in Operation.objects.filter(finished_at=None, subject_id=waiting.pk):
        engine.advance(operation.pk)
    if verb == "delete":
        assert not Instance.objects.filter(pk=waiting.pk).exists()
        return
    seen, reason = shown(waiting)
    assert seen in {"queued", "launching", "stopped"}
    assert "being repaired" not in reason
    assert cloud.breaches() == []


def test_a_stop_of_a_launch_that_is_cancelled_before_it_began_leaves_it_stopped(cloud):
    waiting = waiting_for_room(cloud)
    operation = cloud.do(services.stop, waiting)
    engine.cancel(operation.pk, actor=ALICE)
    engine.advance(operation.pk)
    assert shown(waiting) == ("stopped", "")


def test_a_network_that_a_host_cannot_make_is_on_the_health_page(cloud):
    with transaction.atomic():
        network = networks.create(project=cloud.project, actor=ALICE, name="inside")
    NetworkOnHost.objects.create(
        network=network, host=Host.objects.get(), seen="broken", seen_problem="the kernel has no vxlan", generation=1
    )
    assert "the kernel has no vxlan" in told_on_health("Networks and routers")


def test_work_by_the_clock_that_fails_is_on_the_health_page_until_it_succeeds():
    class Task:
        name = "api.tidy"

    for words in ("first", "second"):
        note_failure(sender=Task, exception=ValueError(words))
    assert told_on_health("Failing periodic tasks") == "ValueError: second"
    forget_failure(sender=Task)
    assert told_on_health("Failing periodic tasks") == ""
