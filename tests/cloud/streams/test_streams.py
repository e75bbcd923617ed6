"""Event streams and long polls, through real processes and sockets."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from datetime import timedelta
from uuid import uuid4

import httpx
import psutil
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from cloud.events.models import Event
from cloud.events.services import SYSTEM, record
from cloud.operations.models import Operation
from cloud.streams.handover import Caller, Message
from cloud.streams.switchboard import PAGE, Switchboard
from cloud.tenancy import accounts, services
from cloud.tenancy.models import Membership
from tests import factories
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = "/projects/demo/events"
AS_STREAM = {"Accept": "text/event-stream"}


class Stream:
    """A reader of one event stream, in a thread of its own."""

    def __init__(self, client: httpx.Client, path: str = EVENTS, **headers: str):
        self.events: list[dict] = []
        self.ids: list[str] = []
        self.status = 0
        self.ended = threading.Event()
        self._client, self._path, self._headers = client, path, {**AS_STREAM, **headers}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_until(lambda: self.status)

    def _read(self) -> None:
        stream = self._client.stream("GET", self._path, headers=self._headers, timeout=60)
        with contextlib.suppress(httpx.HTTPError), stream as answer:
            self.status = answer.status_code
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    self.ids.append(line[4:])
                elif line.startswith("data: "):
                    self.events.append(json.loads(line[6:]))
        self.ended.set()

    def expect(self, *actions: str) -> None:
        wait_until(lambda: len(self.events) >= len(actions))
        assert [event["action"] for event in self.events] == list(actions)


@pytest.fixture
def client(servers, member):
    with servers.client(factories.token(member)) as client:
        yield client


def happen(project, verb: str = "stop") -> Event:
    with transaction.atomic():
        return record(f"compute.instance.{verb}", project, actor=SYSTEM, project_id=project.pk, after={"verb": verb})


def operation(project, **fields) -> Operation:
    return Operation.objects.create(
        kind="compute.stop", subject_type="instance", subject_id=project.pk, subject_name="web", project_id=project.pk,
        step="ask", deadline_at=Now() + timedelta(minutes=5), requested_by="mia", **fields,
    )  # fmt: skip


def finish(live: Operation) -> None:
    Operation.objects.filter(pk=live.pk).update(outcome="done", finished_at=Now())


def test_events_arrive_as_they_happen_and_only_those_of_the_project(client, project):
    stream = Stream(client)
    happen(project, "start")
    happen(factories.project(), "start")
    began = time.monotonic()
    happen(project, "stop")
    stream.expect("compute.instance.start", "compute.instance.stop")
    assert time.monotonic() - began < 5
    assert stream.events[1]["after"] == {"verb": "stop"}


def test_a_stream_resumes_behind_the_last_event_id(client, project):
    first, second, third = (happen(project, verb) for verb in ("start", "stop", "delete"))
    listed = client.get(EVENTS)
    wait_until(lambda: len(client.get(EVENTS).json()["items"]) == 3)
    cursors = [event["cursor"] for event in client.get(EVENTS).json()["items"]]
    assert listed.status_code == 200
    Stream(client, **{"Last-Event-ID": cursors[0]}).expect("compute.instance.stop", "compute.instance.delete")
    Stream(client, f"{EVENTS}?after={cursors[1]}").expect("compute.instance.delete")


def test_followers_from_different_places_hear_each_event_once_and_in_order(client, project):
    """One of them is more than one look at the database behind."""
    with transaction.atomic():
        for number in range(PAGE + 50):
            record(f"compute.instance.n{number}", project, actor=SYSTEM, project_id=project.pk)
    wait_until(lambda: client.get(EVENTS).json()["items"])
    listed = client.get(EVENTS, params={"limit": 500}).json()["items"]
    far = Stream(client, f"{EVENTS}?after=0-0")
    near = Stream(client, f"{EVENTS}?after={listed[-10]['cursor']}")
    present = Stream(client)
    happen(project, "last")
    everything = [f"compute.instance.n{number}" for number in range(PAGE + 50)]
    for stream, heard in ((present, []), (near, everything[-9:]), (far, everything)):
        stream.expect(*heard, "compute.instance.last")


def test_an_event_that_commits_late_is_neither_lost_nor_passed_by(servers, client, project):
    stream = Stream(client)
    ready, go = threading.Event(), threading.Event()

    def begin_early_and_commit_late():
        with transaction.atomic():
            record("compute.instance.early", project, actor=SYSTEM, project_id=project.pk)
            ready.set()
            go.wait(10)
        connection.close()

    late = threading.Thread(target=begin_early_and_commit_late)
    late.start()
    ready.wait(10)
    happen(project, "late")
    time.sleep(0.5)
    assert stream.events == []
    go.set()
    late.join()
    stream.expect("compute.instance.early", "compute.instance.late")


def test_a_wait_ends_when_the_operation_does_with_the_answer_of_the_api(client, project):
    live = operation(project)
    began = time.monotonic()
    threading.Timer(0.5, finish_elsewhere, [live]).start()
    answer = client.get(f"/projects/demo/operations/{live.pk}?wait=30")
    assert 0.4 < time.monotonic() - began < 30
    assert (answer.status_code, answer.json()["outcome"]) == (200, "done")
    plain = client.get(f"/projects/demo/operations/{live.pk}")
    assert (answer.json(), answer.headers["ETag"]) == (plain.json(), plain.headers["ETag"])
    assert answer.headers["Content-Type"] == plain.headers["Content-Type"]


def finish_elsewhere(live: Operation) -> None:
    finish(live)
    connection.close()


def test_a_wait_ends_when_its_time_is_up(client, project):
    live = operation(project)
    began = time.monotonic()
    answer = client.get(f"/projects/demo/operations/{live.pk}?wait=1")
    assert time.monotonic() - began > 0.9
    assert (answer.status_code, answer.json()["outcome"]) == (200, None)


def test_waits_hold_no_thread_of_web(servers, client, project):
    """Four threads, forty waits: an ordinary request is still answered, long before they end."""
    live = operation(project)
    path = f"/api/v1/projects/demo/operations/{live.pk}?wait=30"
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {client.headers['Authorization']}\r\n\r\n"
    port = int(servers.url.rpartition(":")[2])
    waiting = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(40)]
    for each in waiting:
        each.sendall(request.encode())
    assert client.get("/me", timeout=15).status_code == 200
    time.sleep(0.5)
    finish(live)
    for each in waiting:
        head = each.makefile("rb").readline()
        assert head.startswith(b"HTTP/1.1 200")
        each.close()


def test_waits_are_not_counted_by_the_rate_limit(client, project):
    live = operation(project)
    before = int(client.get("/me").headers["RateLimit-Remaining"])
    for _ in range(3):
        client.get(f"/projects/demo/operations/{live.pk}?wait=1")
    assert int(client.get("/me").headers["RateLimit-Remaining"]) >= before - 1


def test_a_stream_ends_when_its_member_is_removed(servers, client, project, project_admin):
    membership = Membership.objects.get(user__username="mia")
    stream = Stream(client)
    with transaction.atomic():
        services.remove_member(membership=membership, actor=SYSTEM)
    assert stream.ended.wait(10)
    happen(project)
    assert [event["action"] for event in stream.events] == []


def test_a_stream_ends_when_its_token_is_revoked(client, member):
    stream = Stream(client)
    with transaction.atomic():
        accounts.revoke_token(token=member.tokens.get(), actor=SYSTEM)
    assert stream.ended.wait(10)


def test_a_stream_ends_when_its_user_is_deactivated(client, member, cloud_admin):
    stream = Stream(client)
    with transaction.atomic():
        accounts.update_user(user=member, actor=SYSTEM, changes={"is_active": False})
    assert stream.ended.wait(10)


def test_whose_rights_go_while_streams_takes_over_hears_nothing(member, project, monkeypatch):
    """Web has let it through, and the notice of its end came before streams knew of the connection."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)  # its threads leave no connection behind
    caller = Caller(str(member.pk), str(uuid4()), None, None, str(project.pk))
    ours, theirs = socket.socketpair()

    async def hear() -> bytes:
        switchboard = Switchboard()
        serving = asyncio.ensure_future(switchboard.serve())
        await switchboard.accept(Message("events", caller), theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        said = await asyncio.wait_for(reader.read(), 60)  # until it is closed: nothing here checks by time
        writer.close()
        serving.cancel()
        return said

    happen(project)
    assert b"compute.instance.stop" not in asyncio.run(hear())


def test_strangers_get_no_stream(servers, other_tenant, project):
    with servers.client(factories.token(other_tenant)) as stranger:
        assert stranger.get(EVENTS, headers=AS_STREAM).status_code == 404
        assert stranger.get("/events", headers=AS_STREAM).status_code == 403


def test_an_admin_of_the_cloud_follows_all_of_it(servers, cloud_admin, project):
    with servers.client(factories.token(cloud_admin)) as admin:
        stream = Stream(admin, "/events")
        happen(project, "start")
        happen(factories.project(), "stop")
        stream.expect("compute.instance.start", "compute.instance.stop")


def test_two_hundred_idle_streams_are_cheap(servers, project, member):
    tokens = [factories.token(member) for _ in range(4)]
    port = int(servers.url.rpartition(":")[2])
    process = psutil.Process(servers.streams.pid)
    before = process.memory_info().rss
    open_ones = []
    for number in range(200):
        each = socket.create_connection(("127.0.0.1", port), 10)
        head = "GET /api/v1/projects/demo/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        each.sendall(f"{head}Authorization: Bearer {tokens[number % 4]}\r\n\r\n".encode())
        open_ones.append(each)
    for each in open_ones:
        assert each.recv(100).startswith(b"HTTP/1.1 200")
    cpu = process.cpu_times()
    time.sleep(2)
    used = sum(process.cpu_times()[:2]) - sum(cpu[:2])
    grown = (process.memory_info().rss - before) / 2**20
    print(f"200 idle streams: {grown:.1f} MiB more, {used / 2 * 100:.1f} % of a core")
    assert grown < 20
    assert used < 0.3
    for each in open_ones:
        each.close()


def test_one_caller_holds_a_bounded_number(servers, project, member):
    token = factories.token(member)
    port = int(servers.url.rpartition(":")[2])
    answers, open_ones = [], []
    for _ in range(70):
        each = socket.create_connection(("127.0.0.1", port), 10)
        head = "GET /api/v1/projects/demo/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        each.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
        open_ones.append(each)
    for each in open_ones:
        answers.append(each.recv(100).split()[1])
    for each in open_ones:
        each.close()
    assert answers.count(b"200") == 64
    assert answers.count(b"429") == 6


def test_without_streams_a_wait_is_answered_at_once_and_a_stream_is_503(servers, client, project):
    live = operation(project)
    servers.stop_streams()
    try:
        answer = client.get(f"/projects/demo/operations/{live.pk}?wait=30", timeout=15)
        assert answer.json()["outcome"] is None
        refused = client.get(EVENTS, headers=AS_STREAM)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    finally:
        servers.start_streams()


def test_a_stop_of_streams_answers_its_waits(servers, client, project):
    live = operation(project)
    threading.Timer(0.5, servers.streams.terminate).start()
    try:
        answer = client.get(f"/projects/demo/operations/{live.pk}?wait=30")
        assert (answer.status_code, answer.json()["outcome"]) == (200, None)
    finally:
        servers.streams.wait(10)
        servers.start_streams()


def test_a_stream_goes_on_after_the_database_has_dropped_every_connection(servers, client, project):
    stream = Stream(client)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
    happen(project)
    stream.expect("compute.instance.stop")
