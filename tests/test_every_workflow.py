"""Loops over every step of every workflow: run twice there, killed there, refused there, its subject deleted there.

A new workflow is in the loops by being known; its app only has to say, in its scenarios, how it comes about. A step
that no run reaches fails the loop. After every run the cloud is verified.
"""

import inspect
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections, transaction

from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import Refused, Verdict, Workflow
from tests.clouds import ALICE, SmallCloud
from tests.compute.scenarios import SCENARIOS as COMPUTE
from tests.scenarios import Scenario
from tests.storage.image_scenarios import SCENARIOS as IMAGES
from tests.storage.scenarios import SCENARIOS as STORAGE
from tests.things.scenarios import SCENARIOS as THINGS

pytestmark = pytest.mark.django_db(transaction=True)
SCENARIOS = [*COMPUTE, *IMAGES, *STORAGE, *THINGS]
every_kind = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)


def known_workflows() -> set[str]:
    return {kind for kind in Workflow.known if not kind.startswith("test.")}


def steps_of(kind: str) -> list[str]:
    """The methods that are steps: public, without arguments, returning a verdict."""
    steps = []
    for name, member in inspect.getmembers(Workflow.known[kind], inspect.isfunction):
        signature = inspect.signature(member)
        if signature.return_annotation is Verdict and len(signature.parameters) == 1 and name != "give_up":
            steps.append(name)
    return steps


def test_every_workflow_has_a_scenario():
    assert known_workflows() == {scenario.kind for scenario in SCENARIOS}


class Strikes:
    """Does something at steps of one operation, once at each of `at`: `what(workflow, action)` acts instead.

    What was struck is noted in files, as a child that notes it may be killed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, notes: Path, what: Callable) -> None:
        self.operation: Operation | None = None
        self.at: set[str] = set()
        self.reached: set[str] = set()
        self.notes = notes
        ordinary = Workflow.step

        def faulty(workflow: Workflow, name: str) -> Callable[[], Verdict]:
            action = ordinary(workflow, name)
            if workflow.operation != self.operation:
                return action
            self.reached.add(name)
            if name not in self.at - self.struck:
                return action
            return lambda: (self.notes / name).touch() or what(workflow, action)

        monkeypatch.setattr(Workflow, "step", faulty)

    @property
    def struck(self) -> set[str]:
        return {note.name for note in self.notes.iterdir()}


def run(
    cloud: SmallCloud,
    scenario: Scenario,
    strikes: Strikes,
    at: set[str],
    *,
    cancelled: bool = False,
    advance: Callable = engine.advance,
) -> str:
    """One operation from its beginning to its end, struck on its way; returns the outcome, having checked the cloud."""
    there = scenario.prepare(cloud)
    scenario.begin(cloud, there)
    operation = Operation.objects.filter(kind=scenario.kind, finished_at=None).latest("started_at")
    if cancelled:
        with transaction.atomic():
            engine.cancel(operation.pk, actor=ALICE)
    strikes.operation, strikes.at = operation, at
    cloud.settle(advance)
    operation.refresh_from_db()
    seen = scenario.subjects.seen(operation.subject_id)
    assert seen == scenario.after.get(operation.outcome), (operation.outcome, operation.reason)
    scenario.subjects.check(cloud, operation.subject_id)
    assert cloud.breaches() == []
    return operation.outcome


def each_step(cloud: SmallCloud, scenario: Scenario, strikes: Strikes) -> Iterator[tuple[str, bool]]:
    """Every step, and whether only a cancelled run reaches it: found out by a run that nothing strikes."""
    run(cloud, scenario, strikes, set())
    forward = set(strikes.reached)
    for step in steps_of(scenario.kind):
        yield step, step not in forward
        assert step in strikes.struck, f"no run reaches the step {step}"


@pytest.fixture(autouse=True)
def quiet_bells(monkeypatch):
    """Nobody listens in these tests: `settle` looks by itself."""
    monkeypatch.setattr("cloud.operations.bells.push", lambda *args, **kwargs: None)


@every_kind
def test_every_step_may_run_twice(scenario, cloud, monkeypatch, tmp_path):
    def twice(workflow: Workflow, action: Callable[[], Verdict]) -> Verdict:
        action()
        for cached in vars(workflow).keys() - {"operation"}:
            del vars(workflow)[cached]  # the second run reads its rows anew
        return action()

    strikes = Strikes(monkeypatch, tmp_path, twice)
    steps = set(steps_of(scenario.kind))
    assert run(cloud, scenario, strikes, steps) == "done"
    assert run(cloud, scenario, strikes, steps, cancelled=True) == "cancelled"
    assert strikes.struck == steps


@every_kind
def test_a_worker_may_die_at_the_end_of_every_step(scenario, cloud, monkeypatch, tmp_path):
    """The worker is a real process, killed -9 after the step has acted and before it is committed."""

    def die(workflow: Workflow, action: Callable[[], Verdict]) -> Verdict:
        action()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    deaths = []

    def advance_in_a_child(operation_id: object) -> None:
        connections.close_all()
        child = os.fork()
        if child == 0:
            try:
                engine.advance(operation_id)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        deaths.extend([operation_id] if os.WIFSIGNALED(status) else [])

    strikes = Strikes(monkeypatch, tmp_path, die)
    steps = set(steps_of(scenario.kind))
    assert run(cloud, scenario, strikes, steps, advance=advance_in_a_child) == "done"
    assert run(cloud, scenario, strikes, steps, cancelled=True, advance=advance_in_a_child) == "cancelled"
    assert strikes.struck == steps
    assert len(deaths) == len(steps)


@every_kind
def test_every_step_may_be_refused(scenario, cloud, monkeypatch, tmp_path):
    def refuse(workflow: Workflow, action: Callable[[], Verdict]) -> Verdict:
        action()
        raise Refused("as the test wants it")

    persists = Workflow.known[scenario.kind].persists
    strikes = Strikes(monkeypatch, tmp_path, refuse)
    for step, cancelled in each_step(cloud, scenario, strikes):
        outcome = run(cloud, scenario, strikes, {step}, cancelled=cancelled)
        assert outcome == ("cancelled" if cancelled else "done" if persists else "failed"), step


@every_kind
def test_the_subject_may_be_deleted_at_every_step(scenario, cloud, monkeypatch, tmp_path):
    """The step stumbles first, so that the operation rests right there when the delete takes over."""

    def stumble(workflow: Workflow, action: Callable[[], Verdict]) -> Verdict:
        raise RuntimeError("as the test wants it")

    strikes = Strikes(monkeypatch, tmp_path, stumble)
    for step, cancelled in each_step(cloud, scenario, strikes):
        deleted = []

        def advance(operation_id: object, step: str = step, deleted: list = deleted) -> None:
            engine.advance(operation_id)
            if step in strikes.struck and not deleted:
                deleted.append(operation_id)
                scenario.subjects.delete(cloud, Operation.objects.get(pk=operation_id).subject_id)

        outcome = run(cloud, scenario, strikes, {step}, cancelled=cancelled, advance=advance)
        assert outcome == (scenario.deleted or ("cancelled" if cancelled else "done")), step
        assert deleted, step
