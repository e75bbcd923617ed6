"""The engine, with workflows made up for the purpose, on a real PostgreSQL."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from cloud.events.models import Event
from cloud.events.services import SYSTEM, Actor
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import DONE, EVERYTHING, Refused, Topic, Wait, Workflow
from cloud.tenancy.models import Project

pytestmark = pytest.mark.django_db(transaction=True)
ALICE = Actor("alice", uuid.uuid4(), "req-1")


@pytest.fixture
def subject():
    return Project.objects.create(name="thing")


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(Workflow, "known", dict(Workflow.known))


def workflow(**members):
    for name, member in members.items():
        if callable(member):
            member.__name__ = name  # a step is remembered by its name
    base = {"kind": f"test.{uuid.uuid4().hex[:8]}", "subject_type": "thing", "patience": timedelta(minutes=5)}
    return type("Made", (Workflow,), {**base, **members})


def begin(kind, subject):
    with transaction.atomic():
        return engine.start(kind, subject, actor=ALICE)


def run(operation):
    Operation.objects.filter(pk=operation.pk, finished_at=None).update(due_at=Now())
    engine.advance(operation.pk)
    operation.refresh_from_db()
    return operation


def test_work_begins_in_one_statement_and_is_all_there(subject):
    made = workflow(first="one", one=lambda self: DONE)
    with transaction.atomic(), CaptureQueriesContext(connection) as statements:
        operation = engine.start(made, subject, actor=ALICE, parameters={"size": 3, "name": "50 %s"})
    assert [one["sql"].split("_")[0] for one in statements] == ["EXECUTE operations"]
    kept = Operation.objects.get(pk=operation.pk)
    facts = {field.attname: getattr(operation, field.attname) for field in Operation._meta.concrete_fields}
    assert facts == {name: getattr(kept, name) for name in facts}
    assert (kept.parameters, kept.owner_id, kept.step) == ({"size": 3, "name": "50 %s"}, ALICE.user_id, "one")
    assert kept.deadline_at - kept.started_at == made.patience


def test_who_began_a_resource_owns_all_work_on_it(subject):
    made = workflow(first="one", one=lambda self: DONE)
    run(begin(made, subject))
    with transaction.atomic():
        later = engine.start(made, subject, actor=SYSTEM)
    assert (later.owner_id, later.requested_by_id) == (ALICE.user_id, None)


def test_steps_follow_one_another_until_done(subject):
    ran = []
    made = workflow(first="one", one=lambda self: ran.append(1) or self.two, two=lambda self: ran.append(2) or DONE)
    operation = run(begin(made, subject))
    assert (ran, operation.outcome, operation.requested_by) == ([1, 2], "done", "alice")
    assert [line["step"] for line in operation.history] == ["two"]
    assert Event.objects.get(action="operations.operation.finish").after["outcome"] == "done"


def test_a_wait_keeps_the_step_and_says_why(subject):
    operation = run(begin(workflow(first="one", one=lambda self: Wait(60, because="tea")), subject))
    assert (operation.step, operation.reason, operation.finished_at) == ("one", "tea", None)
    assert operation.due_at > operation.started_at + timedelta(seconds=50)


def test_a_second_operation_on_the_subject_is_refused_with_the_first_ones_id(subject):
    made = workflow(first="one", one=lambda self: Wait(60, because="tea"))
    first = begin(made, subject)
    with pytest.raises(engine.Busy) as refusal:
        begin(made, subject)
    assert refusal.value.extra == {"operation": str(first.pk)}
    assert refusal.value.headers["Retry-After"]


def test_what_may_supersede_takes_over(subject):
    slow = workflow(first="one", one=lambda self: Wait(60, because="tea"))
    fast = workflow(first="one", supersedes=frozenset({slow.kind}), one=lambda self: DONE)
    first, second = begin(slow, subject), begin(fast, subject)
    first.refresh_from_db()
    assert first.outcome == "superseded"
    assert run(second).outcome == "done"


def test_what_supersedes_everything_takes_over_from_what_nobody_has_thought_of(subject):
    first = begin(workflow(first="one", one=lambda self: Wait(60, because="tea")), subject)
    begin(workflow(first="one", supersedes=EVERYTHING, one=lambda self: DONE), subject)
    first.refresh_from_db()
    assert first.outcome == "superseded"


def test_an_operation_remembers_what_its_verb_was_given_and_may_begin_later(subject):
    ran = []
    made = workflow(
        first="one",
        one=lambda self: ran.append("one") or self.two,
        two=lambda self: ran.append(self.operation.parameters["size"]) or DONE,
    )
    with transaction.atomic():
        operation = engine.start(made, subject, actor=ALICE, step="two", parameters={"size": 3})
    assert (run(operation).outcome, ran) == ("done", [3])


def is_due(operation):
    return Operation.objects.filter(pk=operation.pk, due_at__lte=Now()).exists()


def test_what_waits_for_a_resource_is_woken_by_the_end_of_work_on_it(subject):
    other = Project.objects.create(name="other")
    on = (Topic("thing", uuid.uuid4()), Topic("thing", other.pk))
    waiting = run(begin(workflow(first="one", one=lambda self: Wait(60, because="the other", on=on)), subject))
    assert not is_due(waiting)
    run(begin(workflow(first="one", one=lambda self: DONE), other))
    assert is_due(waiting)


def test_what_happens_while_a_step_runs_is_looked_for_again_soon(subject):
    """A wake-up finds only those whose wait is committed; so the first look after it does not take the whole wait."""
    topic = Topic("thing", uuid.uuid4())
    waiting = run(begin(workflow(first="one", one=lambda self: Wait(60, because="it", on=(topic,))), subject))
    assert waiting.due_at < waiting.started_at + timedelta(seconds=10)
    Operation.objects.filter(pk=waiting.pk).update(due_at=Now())
    waiting = run(waiting)
    assert waiting.due_at > waiting.started_at + timedelta(seconds=50)


def test_being_told_wakes_on_commit_those_that_still_wait_and_nobody_else(subject):
    topic = Topic("room", uuid.uuid4())
    verdicts = [Wait(60, because="tea"), Wait(60, because="room", on=(topic,))]
    operation = run(begin(workflow(first="one", one=lambda self: verdicts[-1]), subject))
    with transaction.atomic():
        engine.tell_waiting(topic)
        assert not is_due(operation)
    assert is_due(operation)
    verdicts.pop()
    run(operation)
    engine.tell_waiting(topic)
    assert not is_due(operation), "it waits for something else now"


def test_of_many_that_wait_those_that_have_waited_longest_are_told(subject):
    topic = Topic("room", uuid.uuid4())
    made = workflow(first="one", one=lambda self: Wait(60, because="room", on=(topic,)))
    waiting = [run(begin(made, Project.objects.create(name=f"p{number}"))) for number in range(3)]
    engine.tell_waiting(topic, limit=2)
    assert [is_due(operation) for operation in waiting] == [True, True, False]


def test_a_stumbling_step_leaves_nothing_behind_and_is_tried_again(subject):
    fail = [True]

    def one(self):
        Project.objects.update(description="half done")
        if fail:
            raise RuntimeError("boom")
        return DONE

    operation = run(begin(workflow(first="one", one=one), subject))
    subject.refresh_from_db()
    assert (subject.description, operation.attempts, operation.reason) == ("", 1, "RuntimeError: boom")
    fail.clear()
    assert run(operation).outcome == "done"


def test_backoff_grows_with_every_stumble(subject):
    def one(self):
        raise RuntimeError("boom")

    operation = begin(workflow(first="one", one=one), subject)
    for _ in range(5):
        run(operation)
    assert operation.attempts == 5
    assert operation.due_at - operation.started_at > timedelta(seconds=10)


def test_refusal_leads_to_clearing_up_and_the_outcome_is_failed(subject):
    def one(self):
        raise Refused("no such luck")

    made = workflow(first="one", one=one, give_up=lambda self: self.tidy, tidy=lambda self: DONE)
    operation = run(begin(made, subject))
    assert (operation.outcome, operation.reason) == ("failed", "no such luck")


def test_refusal_while_clearing_up_is_a_stumble_not_an_endless_loop(subject):
    def refuse(self):
        raise Refused("no such luck")

    made = workflow(first="one", one=refuse, give_up=lambda self: self.tidy, tidy=refuse)
    operation = run(begin(made, subject))
    assert (operation.step, operation.finished_at, operation.attempts) == ("tidy", None, 1)
    assert operation.reason == "no such luck"


def test_patience_ends(subject):
    made = workflow(first="one", one=lambda self: Wait(60, because="tea"))
    operation = run(begin(made, subject))
    Operation.objects.update(deadline_at=Now() - timedelta(seconds=1))
    assert run(operation).outcome == "failed"
    assert operation.reason == "gave up after 5 min: tea"


def test_cancel_clears_up_and_asking_twice_is_no_error(subject):
    made = workflow(
        first="one",
        one=lambda self: Wait(60, because="tea"),
        give_up=lambda self: self.tidy,
        tidy=lambda self: DONE,
    )
    operation = run(begin(made, subject))
    engine.cancel(operation.pk, actor=ALICE)
    engine.cancel(operation.pk, actor=ALICE)
    assert run(operation).outcome == "cancelled"
    assert Event.objects.filter(action="operations.operation.cancel").count() == 1
    with pytest.raises(engine.OperationFinished):
        engine.cancel(operation.pk, actor=ALICE)


def test_a_result_already_reached_wins_over_a_late_cancel(subject):
    ready = []
    made = workflow(
        first="one",
        one=lambda self: DONE if ready else Wait(60, because="tea"),
        is_reached=lambda self: bool(ready),
    )
    operation = run(begin(made, subject))
    ready.append(1)
    engine.cancel(operation.pk, actor=ALICE)
    assert run(operation).outcome == "done"


def test_what_may_not_be_cancelled_says_so(subject):
    made = workflow(first="one", one=lambda self: Wait(60, because="tea"), may_cancel=lambda self: False)
    operation = run(begin(made, subject))
    with pytest.raises(engine.NotCancelable):
        engine.cancel(operation.pk, actor=ALICE)


def test_a_rolled_back_start_leaves_no_operation(subject):
    with transaction.atomic():
        engine.start(workflow(first="one", one=lambda self: DONE), subject, actor=SYSTEM)
        transaction.set_rollback(True)
    assert not Operation.objects.exists()


def test_sweeping_advances_what_nobody_rang_for(subject):
    operation = begin(workflow(first="one", one=lambda self: DONE), subject)
    engine.sweep()
    operation.refresh_from_db()
    assert operation.outcome == "done"


def test_an_unknown_kind_waits_for_a_newer_worker(subject):
    made = workflow(first="one", one=lambda self: DONE)
    operation = begin(made, subject)
    del Workflow.known[made.kind]
    assert run(operation).finished_at is None
    Workflow.known[made.kind] = made
    assert run(operation).outcome == "done"
