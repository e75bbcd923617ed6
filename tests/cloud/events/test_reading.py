"""The event log in order, also while transactions overlap."""

import contextlib
import random
import threading

import psycopg
import pytest
from django.db import connection, transaction

from cloud.events import reading
from cloud.events.models import Event
from cloud.events.reading import Cursor
from cloud.events.services import SYSTEM, Actor, record
from tests import factories
from tests.clouds import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def happen(project, verb: str) -> Event:
    with transaction.atomic():
        return record(f"compute.instance.{verb}", project, actor=SYSTEM, project_id=project.pk)


def settled() -> list[str]:
    return list(reading.settled(Event.objects.all()).order_by("transaction", "id").values_list("action", flat=True))


def test_what_a_running_transaction_might_still_precede_is_not_shown_yet():
    project = factories.project()
    begun, go = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            record("compute.instance.early", project, actor=SYSTEM)
            begun.set()
            go.wait(10)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    begun.wait(10)
    happen(project, "late")
    assert settled() == []
    ready, waiting = reading.follow(None, Cursor(0, 0), 10)
    assert (list(ready), waiting) == ([], True)
    go.set()
    thread.join()
    wait_until(lambda: settled() == ["compute.instance.early", "compute.instance.late"])


def test_a_long_transaction_in_another_database_holds_nothing_up():
    project = factories.project()
    facts = connection.get_connection_params()
    login = {name: facts[name] for name in ("host", "port", "user", "password") if facts.get(name)}
    with psycopg.connect(dbname="postgres", **login) as elsewhere:
        elsewhere.execute("SELECT pg_current_xact_id()")
        happen(project, "stop")
        assert settled() == ["compute.instance.stop"]


def test_writers_side_by_side_neither_lose_nor_double_an_event():
    """A reader follows while writers commit out of order, roll back, and begin again at savepoints."""
    project, wanted = factories.project(), set()

    def write(writer: int) -> None:
        chance, mine = random.Random(writer), set[str]()
        for number in range(40):
            with contextlib.suppress(InterruptedError), transaction.atomic():
                for part in range(chance.randrange(1, 3)):
                    name = f"w{writer}n{number}p{part}"
                    with contextlib.suppress(KeyError), transaction.atomic():
                        record(f"compute.instance.{name}", project, actor=SYSTEM)
                        if chance.random() < 0.2:
                            raise KeyError
                        mine.add(name)
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT pg_sleep(%s)", [chance.random() * 0.01])
                if chance.random() < 0.2:
                    raise InterruptedError
                wanted.update(mine)
            mine.clear()
        connection.close()

    heard, cursor = [], Cursor(0, 0)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers) or len(heard) < len(wanted):
        found, _ = reading.follow(None, cursor, 50)
        heard += [event.action.rpartition(".")[2] for event in found]
        cursor = Cursor.of(found[-1]) if found else cursor
    assert len(heard) == len(set(heard))
    assert set(heard) == wanted


def test_a_cursor_from_now_shows_what_comes_and_not_what_was():
    project = factories.project()
    happen(project, "before")
    wait_until(settled)
    cursor = reading.now()
    happen(project, "after")
    wait_until(lambda: len(settled()) == 2)
    found, _ = reading.follow(project.pk, cursor, 10)
    assert [event.action for event in found] == ["compute.instance.after"]


def test_the_api_pages_forwards_and_backwards(api, viewer, project):
    verbs = [f"verb{number}" for number in range(7)]
    for verb in verbs:
        happen(project, verb)
    happen(factories.project(), "elsewhere")
    wait_until(lambda: len(settled()) == 8)
    vera, path = api.as_(viewer), "projects/demo/events"
    assert walk(vera, f"{path}?limit=3") == verbs
    assert walk(vera, f"{path}?limit=3&newest_first=true") == verbs[::-1]
    middle = vera.get(path).json()["items"][3]["cursor"]
    assert walk(vera, f"{path}?after={middle}") == verbs[4:]
    assert walk(vera, f"{path}?before={middle}") == verbs[:3]
    assert walk(vera, f"{path}?action=compute.instance.verb2") == ["verb2"]


def walk(client, path: str) -> list[str]:
    verbs = []
    while path:
        answer = client.get(path).json()
        verbs += [item["action"].rpartition(".")[2] for item in answer["items"]]
        path = answer["next"]
    return verbs


@pytest.mark.parametrize(
    "query", ["after=x", "after=1", "before=1-2-3", "colour=red", "limit=0", "after=99999999999999999999-1"]
)
def test_what_is_no_cursor_is_refused(api, viewer, query):
    assert api.as_(viewer).get(f"projects/demo/events?{query}").status_code == 400


def test_without_the_streams_process_a_stream_is_503(api, viewer):
    answer = api.as_(viewer).get("projects/demo/events", HTTP_ACCEPT="text/event-stream")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


def test_the_whole_log_is_for_admins_of_the_cloud(api, project_admin, cloud_admin, project):
    happen(project, "stop")
    wait_until(settled)
    assert api.as_(project_admin).get("events").status_code == 403
    assert len(api.as_(cloud_admin).get("events").json()["items"]) == 1


def test_the_log_cannot_be_altered():
    event = happen(factories.project(), "stop")
    with pytest.raises(Exception, match="Cannot update or delete"):
        Event.objects.filter(pk=event.pk).update(actor="somebody else")
    with pytest.raises(Exception, match="Cannot update or delete"):
        event.delete()


HOST = Actor("host rack7-node3")


@pytest.fixture
def seen_by_a_host(project):
    with transaction.atomic():
        record("compute.instance.seen", project, actor=HOST, project_id=project.pk, after={"power": "running"})
    wait_until(settled)


@pytest.mark.parametrize("query", ["", "?actor=host", "?newest_first=true"])
def test_tenants_do_not_learn_the_names_of_hosts(api, project_admin, seen_by_a_host, query):
    answer = api.as_(project_admin).get(f"projects/demo/events{query}")
    assert [event["actor"] for event in answer.json()["items"]] == ["host"]
    assert b"rack7" not in answer.content


def test_tenants_cannot_guess_the_names_of_hosts(api, project_admin, cloud_admin, seen_by_a_host):
    path = "events?actor=host%20rack7-node3"
    assert api.as_(project_admin).get(f"projects/demo/{path}").json()["items"] == []
    assert [event["actor"] for event in api.as_(cloud_admin).get(path).json()["items"]] == ["host rack7-node3"]


@pytest.mark.parametrize("page", ["activity", "activity?actor=host", ""])
def test_pages_of_projects_do_not_name_hosts(client, viewer, seen_by_a_host, page):
    client.force_login(viewer)
    shown = client.get(f"/projects/demo/{page}".rstrip("/")).content.decode()
    assert "rack7" not in shown
    assert "says its host" in shown
