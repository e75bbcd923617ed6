"""The engine under fire: many workers, lost races, killed processes. Real threads and processes, real PostgreSQL."""

import os
import random
import subprocess
import sys
import textwrap
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.models.functions import Now

from cloud.events.services import SYSTEM
from cloud.operations import engine
from cloud.operations.models import Operation
from cloud.operations.workflow import DONE, Wait, Workflow
from cloud.tenancy.models import Project

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(Workflow, "known", dict(Workflow.known))


def in_threads(count, work):
    errors = []

    def body(number):
        try:
            work(number)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def begin(kind, subject):
    with transaction.atomic():
        return engine.start(kind, subject, actor=SYSTEM)


def test_twenty_workers_run_each_step_once():
    ran = []

    class Counting(Workflow):
        kind, subject_type, first, patience = "test.counting", "thing", "one", timedelta(minutes=1)

        def one(self):
            ran.append(1)
            connection.cursor().execute("SELECT pg_sleep(0.05)")
            return self.two

        def two(self):
            ran.append(2)
            return DONE

    operation = begin(Counting, Project.objects.create(name="a"))
    assert in_threads(20, lambda _: engine.advance(operation.pk)) == []
    assert ran == [1, 2]


def test_no_wake_up_is_lost():
    """A report may land at any moment while the step that would wait for it runs."""

    class Patient(Workflow):
        kind, subject_type, first, patience = "test.patient", "thing", "look", timedelta(hours=2)

        def look(self):
            seen = Project.objects.get(pk=self.operation.subject_id).description
            connection.cursor().execute("SELECT pg_sleep(%s)", [random.random() / 200])
            return DONE if seen == "arrived" else Wait(3600, because="not yet")

    def report(subject):
        with transaction.atomic():
            operation = engine.lock("thing", subject.pk)
            Project.objects.filter(pk=subject.pk).update(description="arrived")
            engine.wake(operation)

    for number in range(60):
        subject = Project.objects.create(name=f"p{number}")
        operation = begin(Patient, subject)
        works = [lambda op=operation: engine.advance(op.pk), lambda who=subject: report(who)]
        assert in_threads(2, lambda which, works=works: works[which]()) == []
        engine.advance(operation.pk)
        operation.refresh_from_db()
        assert operation.outcome == "done", number


def test_one_of_many_simultaneous_starts_wins():
    class Lone(Workflow):
        kind, subject_type, first, patience = "test.lone", "thing", "one", timedelta(minutes=1)

    subject = Project.objects.create(name="a")
    errors = in_threads(12, lambda _: begin(Lone, subject))
    assert len(errors) == 11
    assert {type(error) for error in errors} == {engine.Busy}
    assert Operation.objects.count() == 1


def test_simultaneous_starts_that_may_take_over_do_so_one_after_the_other():
    class Taking(Workflow):
        kind, subject_type, first, patience = "test.taking", "thing", "one", timedelta(minutes=1)
        supersedes = frozenset({"test.taking"})

    subject = Project.objects.create(name="a")
    assert in_threads(6, lambda _: begin(Taking, subject)) == []
    assert Operation.objects.filter(outcome="superseded").count() == 5
    assert Operation.objects.filter(finished_at=None).count() == 1


def test_a_start_that_looked_before_another_had_committed_takes_over_from_it():
    """Both see an idle resource; the second waits for the first one's row, and looks again."""

    class Taking(Workflow):
        kind, subject_type, first, patience = "test.taking", "thing", "one", timedelta(minutes=1)
        supersedes = frozenset({"test.taking"})

    subject = Project.objects.create(name="a")
    begun, blocked = threading.Event(), threading.Event()

    def work(number):
        if number == 0:
            with transaction.atomic():
                engine.start(Taking, subject, actor=SYSTEM)
                begun.set()
                assert blocked.wait(30)
        else:
            begun.wait(30)
            begin(Taking, subject)

    def watch():
        while not blocked.is_set():
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                if cursor.fetchone()[0]:
                    blocked.set()

    watcher = threading.Thread(target=lambda: (watch(), connections.close_all()))
    watcher.start()
    errors = in_threads(2, work)
    blocked.set()
    watcher.join()
    assert errors == []
    assert sorted(Operation.objects.values_list("outcome", flat=True)) == ["", "superseded"]


def test_a_worker_killed_in_mid_step_leaves_the_step_to_the_next():
    subject = Project.objects.create(name="a")
    code = textwrap.dedent("""
        import os, django
        django.setup()
        from datetime import timedelta
        from django.db import connection
        from cloud.operations import engine
        from cloud.operations.workflow import DONE, Workflow
        from cloud.tenancy.models import Project

        class Slow(Workflow):
            kind, subject_type, first, patience = "test.slow", "thing", "one", timedelta(minutes=5)
            def one(self):
                Project.objects.update(description="half done")
                print("inside", flush=True)
                connection.cursor().execute("SELECT pg_sleep(4)")
                return DONE

        engine.advance(os.environ["OPERATION"])
    """)

    class Slow(Workflow):
        kind, subject_type, first, patience = "test.slow", "thing", "one", timedelta(minutes=5)

        def one(self):
            return DONE

    operation = begin(Slow, subject)
    database = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    if connection.settings_dict["HOST"].startswith("/"):
        database = "postgresql://{USER}:{PASSWORD}@/{NAME}?host={HOST}&port={PORT}".format(**connection.settings_dict)
    environment = {**os.environ, "OPERATION": str(operation.pk), "DATABASE_URL": database}
    worker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert worker.stdout.readline().strip() == "inside"
    engine.advance(operation.pk)  # somebody else has it
    operation.refresh_from_db()
    assert (operation.step, operation.attempts, operation.finished_at) == ("one", 1, None)

    worker.kill()
    worker.wait()
    with connection.cursor() as cursor:  # the server notices the dead client at the end of its statement
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep(4)%'"
        )
    Operation.objects.update(due_at=Now())
    engine.advance(operation.pk)
    operation.refresh_from_db()
    subject.refresh_from_db()
    assert (operation.outcome, subject.description) == ("done", "")
