"""Three loops over every step of every workflow: run twice there, killed there, refused there; afterwards `verify`.

A new workflow is in the loops by being known; it only has to say, in SCENARIOS, how it is begun. A step that no run
reaches fails the loop.
"""

import inspect
import os
import signal
from collections.abc import Callable

import pytest
from django.db import connections, transaction

from cloud.events.services import Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import Refused, Verdict, Workflow
from compute import services
from compute.models import Instance
from tests import factories
from tests.clouds import ALICE, SmallCloud

pytestmark = pytest.mark.django_db(transaction=True)


def launched(cloud: SmallCloud) -> Instance:
    instance = cloud.launch()
    cloud.settle()
    return instance


def stopped(cloud: SmallCloud) -> Instance:
    instance = launched(cloud)
    cloud.do(services.stop, instance)
    cloud.settle()
    return instance


def suspended(cloud: SmallCloud) -> Instance:
    instance = launched(cloud)
    cloud.do(services.suspend, instance)
    cloud.settle()
    return instance


def cloned(*, instance: Instance, actor: Actor) -> object:
    return services.clone(instance=instance, actor=actor, names=[factories.name("copy")])


# kind → what is there before, and the verb
SCENARIOS: dict[str, tuple[Callable[[SmallCloud], Instance | None], Callable[..., object] | None]] = {
    "compute.launch": (lambda cloud: None, None),
    "compute.start": (stopped, services.start),
    "compute.stop": (launched, services.stop),
    "compute.reboot": (launched, services.reboot),
    "compute.pause": (launched, services.pause),
    "compute.suspend": (launched, services.suspend),
    "compute.resume": (suspended, services.resume),
    "compute.clone": (launched, cloned),
    "compute.launch_clone": (launched, cloned),
    "compute.delete": (launched, services.delete),
}
# what is seen once an operation has ended so
AFTER = {
    ("compute.launch", "done"): "running",
    ("compute.launch", "failed"): "gone",
    ("compute.launch", "cancelled"): "gone",
    ("compute.start", "done"): "running",
    ("compute.start", "failed"): "stopped",
    ("compute.start", "cancelled"): "stopped",
    ("compute.stop", "done"): "stopped",
    ("compute.stop", "failed"): "running",
    ("compute.stop", "cancelled"): "running",
    ("compute.reboot", "done"): "running",
    ("compute.reboot", "failed"): "running",
    ("compute.reboot", "cancelled"): "running",
    ("compute.pause", "done"): "paused",
    ("compute.pause", "failed"): "running",
    ("compute.pause", "cancelled"): "running",
    ("compute.suspend", "done"): "suspended",
    ("compute.suspend", "failed"): "running",
    ("compute.suspend", "cancelled"): "running",
    ("compute.resume", "done"): "running",
    ("compute.resume", "failed"): "suspended",
    ("compute.resume", "cancelled"): "suspended",
    ("compute.clone", "done"): "running",
    ("compute.clone", "failed"): "running",
    ("compute.clone", "cancelled"): "running",
    ("compute.launch_clone", "done"): "running",
    ("compute.launch_clone", "failed"): "gone",
    ("compute.launch_clone", "cancelled"): "gone",
    ("compute.delete", "done"): None,
    ("compute.delete", "cancelled"): "running",
}


def known_workflows() -> list[type[Workflow]]:
    return [kind for name, kind in sorted(Workflow.known.items()) if not name.startswith("test.")]


def steps_of(workflow: type[Workflow]) -> list[str]:
    """The methods that are steps: public, without arguments, returning a verdict."""
    steps = []
    for name, member in inspect.getmembers(workflow, inspect.isfunction):
        signature = inspect.signature(member)
        if signature.return_annotation is Verdict and len(signature.parameters) == 1 and name != "give_up":
            steps.append(name)
    return steps


EVERY_STEP = [(kind.kind, step) for kind in known_workflows() for step in steps_of(kind)]


def test_every_workflow_has_a_scenario():
    assert {kind.kind for kind in known_workflows()} == set(SCENARIOS)


class Fault:
    """Changes what one step of one kind does, once; remembers which steps were reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str, step: str, what: Callable) -> None:
        self.struck, self.reached = False, set()
        ordinary = Workflow.step

        def faulty(workflow: Workflow, name: str) -> Callable[[], Verdict]:
            self.reached.add((workflow.operation.kind, name))
            action = ordinary(workflow, name)
            if (workflow.operation.kind, name) != (kind, step) or self.struck:
                return action
            return lambda: what(self, workflow, action)

        monkeypatch.setattr(Workflow, "step", faulty)


def begin(cloud: SmallCloud, kind: str) -> tuple[Operation, Instance]:
    prepare, verb = SCENARIOS[kind]
    instance = prepare(cloud)
    if verb is None:
        instance = cloud.launch()
    else:
        cloud.do(verb, instance)
    operation = Operation.objects.get(kind=kind, finished_at=None)
    return operation, Instance.objects.get(pk=operation.subject_id)


def run(cloud: SmallCloud, kind: str, *, cancelled: bool, advance: Callable = engine.advance) -> str:
    """Begin the kind's scenario and let it end; returns the outcome, having checked all that must hold."""
    operation, instance = begin(cloud, kind)
    if cancelled:
        with transaction.atomic():
            engine.cancel(operation.pk, actor=ALICE)
    cloud.settle(advance)
    operation.refresh_from_db()
    seen = Instance.objects.filter(pk=instance.pk).values_list("seen_power", flat=True).first()
    assert seen == AFTER[(kind, operation.outcome)]
    assert (str(instance.pk) in cloud.running()) == (seen in ("running", "paused"))
    assert cloud.breaches() == []
    return operation.outcome


def reaches(cloud: SmallCloud, fault: Callable[[], Fault], kind: str, **how: object) -> tuple:
    """Run once as it should go and, if the step was not reached so, once more with a cancel."""
    watch = fault()
    for cancelled in (False, True):
        outcome = run(cloud, kind, cancelled=cancelled, **how)
        if watch.struck:
            return outcome, cancelled
    raise AssertionError("no run reached this step")


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    """Nobody listens in these tests: `settle` looks by itself."""
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@pytest.mark.parametrize(("kind", "step"), EVERY_STEP)
def test_a_step_may_run_twice(kind, step, cloud, monkeypatch):
    def twice(fault: Fault, workflow: Workflow, action: Callable[[], Verdict]) -> Verdict:
        fault.struck = True
        action()
        vars(workflow).pop("instance", None)  # the second run reads its rows anew
        return action()

    outcome, cancelled = reaches(cloud, lambda: Fault(monkeypatch, kind, step, twice), kind)
    assert outcome == ("cancelled" if cancelled else "done")


@pytest.mark.parametrize(("kind", "step"), EVERY_STEP)
def test_a_worker_may_die_at_the_end_of_a_step(kind, step, cloud, monkeypatch):
    """The worker is a real process, killed -9 after the step has acted and before it is committed."""

    def die(fault: Fault, workflow: Workflow, action: Callable[[], Verdict]) -> Verdict:
        action()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    watch: list[Fault] = []

    def armed() -> Fault:
        watch.append(Fault(monkeypatch, kind, step, die))
        return watch[-1]

    def advance_in_a_child(operation_id: object) -> None:
        connections.close_all()
        child = os.fork()
        if child == 0:
            try:
                engine.advance(operation_id)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        watch[-1].struck = watch[-1].struck or os.WIFSIGNALED(status)

    outcome, cancelled = reaches(cloud, armed, kind, advance=advance_in_a_child)
    assert outcome == ("cancelled" if cancelled else "done")


@pytest.mark.parametrize(("kind", "step"), EVERY_STEP)
def test_a_step_may_be_refused(kind, step, cloud, monkeypatch):
    def refuse(fault: Fault, workflow: Workflow, action: Callable[[], Verdict]) -> Verdict:
        fault.struck = True
        action()
        raise Refused("as the test wants it")

    outcome, cancelled = reaches(cloud, lambda: Fault(monkeypatch, kind, step, refuse), kind)
    persists = Workflow.known[kind].persists
    assert outcome == ("cancelled" if cancelled else "done" if persists else "failed")
