"""A dump of a cloud's database, restored into another cluster by the manual's own commands."""

import contextlib
import os
import re
import subprocess
import sys

import pytest
from django.db import connection

from cloud.embedded import postgres
from cloud.embedded.paths import TREE
from cloud.embedded.testing import own_servers
from cloud.events import place
from cloud.events.models import Event
from cloud.operations.invariants import invariants, put_right
from tests import factories
from tests.cloud.events.test_reading import happen, settled
from tests.cloud.streams.test_streams import EVENTS, Stream
from tests.servers import database_url, wait_until, web_and_streams

pytestmark = pytest.mark.django_db(transaction=True)

MANUAL = (TREE / "docs/operating.md").read_text()
BACK_UP, RESTORE = re.findall(r"```sh\n(.+?)```", MANUAL.partition("## Backing up")[2].partition("\n## ")[0], re.DOTALL)


def run(commands: str, folder, url: str) -> None:
    tools = f"{postgres.binaries()}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    manage = commands.replace("manage.py", str(TREE / "manage.py"))
    environment = {**os.environ, "DATABASE_URL": url, "PATH": tools, "PYTHONPATH": str(TREE)}
    done = subprocess.run(
        ["sh", "-eu", "-c", manage], check=False, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def connected_to(url: str):
    """The test's own code works on another cluster."""
    known, there = dict(connection.settings_dict), re.fullmatch(r"postgresql://pileus@/(\w+)\?host=(.+)", url)
    assert there
    connection.close()
    connection.settings_dict.update(NAME=there[1], HOST=there[2], PORT="", USER="pileus", PASSWORD="")
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(known)


def test_a_restored_log_is_whole_and_goes_on_for_every_reader(tmp_path, django_db_blocker, member, project):
    for number in range(30):
        happen(project, f"n{number}")
    wait_until(lambda: len(settled()) == 30)
    before = list(Event.objects.order_by("transaction", "id").values_list("transaction", "id", "action"))
    run(BACK_UP, tmp_path, database_url())
    lost = happen(project, "lost")  # somebody has seen this one, and the dump has not
    with own_servers() as other, connected_to(other["DATABASE_URL"]):
        run(RESTORE, tmp_path, other["DATABASE_URL"])
        after = list(Event.objects.order_by("transaction", "id").values_list("transaction", "id", "action"))
        assert after == before
        assert len(settled()) == 30
        with web_and_streams(django_db_blocker) as servers, servers.client(factories.token(member)) as client:
            listed = client.get(EVENTS, params={"limit": 500}).json()["items"]
            assert [event["action"] for event in listed] == [action for _, _, action in before]
            middle = Stream(client, **{"Last-Event-ID": listed[-2]["cursor"]})
            ahead = Stream(client, **{"Last-Event-ID": f"{lost.transaction}-{lost.pk}"})
            fresh = Stream(client)
            happen(project, "new")
            middle.expect("compute.instance.n29", "compute.instance.new")
            for stream in (ahead, fresh):
                stream.expect("compute.instance.new")
            newest = client.get(EVENTS, params={"newest_first": True, "limit": 2}).json()["items"]
            assert [event["action"] for event in newest] == ["compute.instance.new", "compute.instance.n29"]


def test_a_log_whose_place_was_not_noted_is_a_breach_and_is_put_right():
    """Somebody restored it, and did not migrate."""
    happen(factories.project(), "stop")
    place.note_place()
    assert not breaches()
    place.Place.objects.update(cluster=1)
    [breach] = breaches()
    assert put_right(breach) == ""
    assert not breaches()


def test_data_restored_without_its_numbers_is_a_breach_and_is_put_right():
    newest = happen(factories.project(), "stop")
    place.note_place()
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval('events_number', %s)", [newest.transaction - 1])
    [breach] = breaches()
    put_right(breach)
    assert not breaches()
    assert happen(factories.project(), "start").transaction > newest.transaction


def test_a_migration_in_the_same_place_changes_no_numbers():
    place.note_place()
    first = happen(factories.project(), "start")
    place.note_place()
    assert happen(factories.project(), "stop").transaction == first.transaction + 1


def breaches():
    return [breach for item in invariants() if item.code == "I13" for breach in item.check()]
