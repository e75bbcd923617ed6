"""Consoles from a client's websocket to an emulator's socket, through web, streams and a host's node service."""

import contextlib
import json
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cloud.events.models import Event
from cloud.events.services import SYSTEM
from cloud.tenancy import accounts, services
from cloud.tenancy.models import Membership, Role
from compute.models import ConsoleLog, ConsoleTicket, Machine
from tests import factories
from tests.clouds import SmallCloud
from tests.consoles import StandInSockets, join, node_service
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Place:
    """A cloud with one running instance, its host's node service, and a member with a token."""

    def __init__(self, folder: Path, servers) -> None:
        self.servers = servers
        self.cloud = SmallCloud(folder)
        self.project = self.cloud.project
        self.instance = self.cloud.launch(name="web")
        self.cloud.settle()
        self.home = self.cloud.node.home(str(self.instance.pk))
        self.machine = StandInSockets(self.home)
        self.mia = factories.member(self.project, Role.MEMBER, "mia")
        self.token = factories.token(self.mia)

    @property
    def path(self) -> str:
        return f"/projects/{self.project.name}/instances/web/console"

    def node(self):
        return node_service(self.cloud.node.paths, self.servers.url, self.cloud.node.token)

    def ask(self, kind: str = "serial", token: str = "", **query) -> httpx.Response:
        with self.servers.client(token or self.token) as client:
            return client.post(self.path, json={"kind": kind}, params=query)

    def url(self, kind: str = "serial") -> str:
        answer = self.ask(kind)
        assert answer.status_code == 200, answer.text
        return answer.json()["url"]

    def open(self, url: str = "", token: str = "", **options):
        headers = {"Authorization": f"Bearer {token or self.token}"}
        options = {"additional_headers": headers, "proxy": None, "compression": None, **options}
        return connect(url or self.url(), **options)

    def refused(self, url: str, **options) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as refusal, self.open(url, **options):
            pass
        return refusal.value.response.status_code, json.loads(refusal.value.response.body)["code"]


@pytest.fixture
def place(servers):
    with tempfile.TemporaryDirectory(prefix="p-") as folder:  # short: there are Unix sockets in it
        place = Place(Path(folder), servers)
        yield place
        place.machine.close()


@pytest.fixture
def console(place):
    with place.node() as process:
        place.node_process = process
        # A host has two seconds to come: on a busy machine its node service takes longer to start.
        wait_until(lambda: place.ask(dry_run=True).status_code == 200)
        yield place


def read(websocket, until: bytes, seconds: float = 10) -> bytes:
    """What arrives, up to and with these bytes."""
    got, deadline = b"", time.monotonic() + seconds
    while until not in got:
        content = websocket.recv(timeout=max(0.01, deadline - time.monotonic()))
        got += content if isinstance(content, bytes) else b""
    return got


def ends(websocket, seconds: float = 10) -> tuple[int, str]:
    """The code and the reason with which it is closed."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ConnectionClosed):
        while True:
            websocket.recv(timeout=max(0.01, deadline - time.monotonic()))
    return websocket.close_code, websocket.close_reason


def test_a_serial_console_shows_what_was_said_and_what_is_typed(console):
    console.machine.say(b"booting\r\n")
    answer = console.ask()
    assert answer.json().keys() == {"url", "kind", "expires_at"}
    with console.open(answer.json()["url"]) as websocket:
        assert json.loads(websocket.recv(timeout=30)) == {"before": 9}
        read(websocket, b"booting\r\n")
        websocket.send(b"root\n")
        read(websocket, b"ROOT\n")
        console.machine.say("grüße\n".encode())
        read(websocket, "grüße\n".encode())
    event = Event.objects.filter(action="compute.instance.console").get()
    assert (event.actor, event.after) == ("mia", {"kind": "serial"})


def test_several_see_the_same_port_and_may_type(console):
    with console.open() as first, console.open() as second:
        first.send(b"one ")
        read(second, b"ONE ")
        second.send(b"two")
        read(first, b"ONE TWO")


def test_a_screen_is_carried_as_it_is(console):
    with console.open(console.url("vnc")) as websocket:
        read(websocket, b"RFB 003.008\n")
        websocket.send(bytes(range(256)))
        read(websocket, bytes(range(256)))


def test_a_url_opens_once_for_its_owner_alone_and_soon(console):
    url = console.url()
    neighbour = factories.token(factories.member(console.project))
    assert console.refused(url, token=neighbour) == (404, "not_found")
    assert console.refused(url, token=factories.token(console.mia)) == (404, "not_found")
    assert console.refused(url, token="wrong") == (401, "unauthenticated")
    with console.open(url):
        pass
    assert console.refused(url) == (404, "not_found")
    late = console.url()
    ConsoleTicket.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert console.refused(late) == (404, "not_found")
    old = console.url()
    Machine.objects.update(generation=99)
    assert console.refused(old) == (409, "conflict")


def test_it_is_good_for_a_minute_and_no_secret_is_kept(console):
    url = console.url()
    ticket = ConsoleTicket.objects.get()
    now = ConsoleTicket.objects.values_list(Now(), flat=True).get()
    assert timedelta(seconds=50) < ticket.expires_at - now <= timedelta(seconds=60)
    assert url.rpartition("/")[2] not in str(ConsoleTicket.objects.values().get())


def test_pages_of_others_open_nothing_and_use_nothing_up(console):
    browser = Client()
    browser.force_login(console.mia)
    session, csrf = browser.cookies["sessionid"].value, "x" * 32
    cookies = {"sessionid": session, "csrftoken": csrf}
    answer = httpx.post(
        f"{console.servers.url}/api/v1{console.path}", json={"kind": "serial"}, cookies=cookies,
        headers={"X-CSRFToken": csrf}, trust_env=False,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    url, cookie = answer.json()["url"], {"Cookie": f"sessionid={session}"}
    assert console.refused(url, origin="https://evil.example", additional_headers=cookie) == (403, "forbidden")
    assert console.refused(url, additional_headers=cookie) == (403, "forbidden")
    other = Client()
    other.force_login(console.mia)
    stolen = {"Cookie": f"sessionid={other.cookies['sessionid'].value}"}
    assert console.refused(url, origin=console.servers.url, additional_headers=stolen) == (404, "not_found")
    with console.open(url, origin=console.servers.url, additional_headers=cookie) as websocket:
        browser.logout()
        assert ends(websocket, 15)[0] == 1008


def test_a_foreign_origin_is_refused_with_a_token_too(console):
    assert console.refused(console.url(), origin="https://evil.example") == (403, "forbidden")


def test_a_ticket_is_no_page(console):
    with console.servers.client(console.token) as client:
        answer = client.get("/consoles/" + console.url().rpartition("/")[2])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert ConsoleTicket.objects.exists()


def test_viewers_and_reading_tokens_get_no_console(console):
    viewer = factories.token(factories.member(console.project, Role.VIEWER))
    assert console.ask(token=viewer).status_code == 403
    assert console.ask(token=factories.token(console.mia, read_only=True)).status_code == 403
    stranger = factories.token(factories.member(factories.project()))
    assert console.ask(token=stranger).status_code == 404
    assert not ConsoleTicket.objects.exists()


def test_a_dry_run_gives_no_url_and_keeps_nothing(console):
    answer = console.ask(dry_run=True)
    assert (answer.status_code, answer.json()["url"]) == (200, None)
    assert not ConsoleTicket.objects.exists()


def test_a_replay_does_not_show_the_url_again(console):
    with console.servers.client(console.token) as client:
        client.headers["Idempotency-Key"] = "one"
        first, again = (client.post(console.path, json={"kind": "serial"}) for _ in range(2))
    assert first.json()["url"]
    assert again.json() == {**first.json(), "url": None}
    assert again.headers["Idempotent-Replay"] == "true"


@pytest.mark.parametrize("change", ["role", "membership", "token", "user"])
def test_it_ends_when_its_owner_may_not_look_any_more(console, change):
    membership = Membership.objects.get(user=console.mia)
    with console.open() as websocket:
        with transaction.atomic():
            match change:
                case "role":
                    services.change_role(membership=membership, role=Role.VIEWER, actor=SYSTEM)
                case "membership":
                    services.remove_member(membership=membership, actor=SYSTEM)
                case "token":
                    accounts.revoke_token(token=console.mia.tokens.get(), actor=SYSTEM)
                case "user":
                    accounts.update_user(user=console.mia, actor=SYSTEM, changes={"is_active": False})
        assert ends(websocket)[0] == 1008


def test_it_ends_with_the_machine(console):
    with console.open() as websocket, console.open(console.url("vnc")):
        console.machine.say(b"last words")
        console.machine.close()
        assert ends(websocket) == (1000, "the machine has ended")


def test_it_ends_when_the_instance_is_no_more_where_it_was(console):
    with console.open() as websocket:
        Machine.objects.filter(instance=console.instance).delete()
        with transaction.atomic():
            accounts.update_user(user=console.mia, actor=SYSTEM, changes={"full_name": "Mia"})
        assert ends(websocket)[0] == 1008


def test_what_is_not_there_is_said_in_words(console):
    console.home.vnc_socket.unlink()
    answer = console.ask("vnc")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "has no screen" in answer.json()["detail"]
    Machine.objects.update(seen="stopped")
    answer = console.ask()
    assert answer.status_code == 409
    assert "does not run" in answer.json()["detail"]
    assert console.ask("video").status_code == 400


def test_a_host_that_is_not_connected_is_said_so_within_seconds(place):
    began = time.monotonic()
    answer = place.ask()
    assert time.monotonic() - began < 10
    assert (answer.status_code, answer.json()["code"]) == (503, "host_unreachable")
    assert answer.json()["retryable"] is True


def test_the_node_comes_back_after_a_restart_of_streams(console):
    assert console.ask().status_code == 200
    with console.open() as websocket:
        console.servers.stop_streams()
        ends(websocket)
    console.servers.start_streams()
    wait_until(lambda: console.ask().status_code == 200, 20)


def test_a_node_that_starts_before_its_host_has_joined_connects_when_it_has(place, servers):
    paths = place.cloud.node.paths
    with node_service(paths, servers.url, place.cloud.node.token, joined=False):
        time.sleep(1)
        join(paths, servers.url, place.cloud.node.token)
        wait_until(lambda: place.ask().status_code == 200, 20)


def test_a_strange_host_token_gets_no_line(place, servers):
    url = f"ws{servers.url.removeprefix('http')}/agent/v1/stream"
    for headers in ({}, {"Authorization": "Bearer pileus-host-wrong"}, {"Authorization": f"Bearer {place.token}"}):
        assert place.refused(url, additional_headers=headers)[0] == 401


def test_a_guest_that_floods_neither_stops_nor_starves_the_others(console):
    """One does not read at all, one reads: memory stays, the guest goes on, another console answers at once."""
    quiet = console.cloud.launch(name="quiet")
    console.cloud.settle()
    other = StandInSockets(console.cloud.node.home(str(quiet.pk)))
    with console.open():  # everything is loaded
        streams, node = psutil.Process(console.servers.streams.pid), psutil.Process(console.node_process.pid)
    before = [process.memory_info().rss for process in (streams, node)]
    stop, said = threading.Event(), [0]

    def flood():
        line = b"all work and no play makes jack a dull boy\r\n" * 90
        while not stop.is_set():
            console.machine.say(line)
            said[0] += len(line)
            time.sleep(0.0005)

    flooding = threading.Thread(target=flood)
    with console.open(max_queue=1) as deaf, console.open() as listener:
        flooding.start()
        until = time.monotonic() + 4
        heard = 0
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                heard += len(listener.recv(timeout=0.1))
        path = console.path.replace("/web/", "/quiet/")
        with console.servers.client(console.token) as client:
            url = client.post(path, json={"kind": "serial"}).json()["url"]
        with console.open(url) as websocket:
            began = time.monotonic()
            websocket.send(b"hello")
            read(websocket, b"HELLO")
            assert time.monotonic() - began < 5
        stop.set()
        flooding.join()
        assert said[0] > 4 << 20
        assert heard > 1 << 20
        deaf.close_socket()
    grown = [(now.memory_info().rss - then) >> 20 for now, then in zip((streams, node), before, strict=True)]
    print(f"flooded with {said[0] >> 20} MiB, {heard >> 20} MiB heard: grown by {grown} MiB")
    assert max(grown) < 12
    other.close()


def test_what_a_guest_does_not_read_waits_at_its_sender(console):
    """A guest that takes nothing: typing stops at the sender, and memory stays."""
    console.machine._serve_serial = lambda connection: time.sleep(60)
    with console.open(), console.open() as websocket:
        node = psutil.Process(console.node_process.pid)
        before = node.memory_info().rss
        websocket.socket.settimeout(2)
        with contextlib.suppress(TimeoutError, ConnectionClosed, OSError):
            for _ in range(400):
                websocket.send(b"x" * (32 << 10))
        assert node.memory_info().rss - before < 8 << 20
        websocket.close_socket()


def test_the_whole_log_comes_from_the_host_or_else_its_end(console):
    console.machine.say(b"first\r\n" + b"x" * (100 << 10) + b"\nlast\n")
    ConsoleLog.objects.create(instance_id=console.instance.pk, offset=9, content=b"pushed\n")
    path = f"/projects/{console.project.name}/instances/web/console-log"
    with console.servers.client(console.token) as client:
        whole = client.get(path, params={"whole": True}).json()
        assert (whole["lines"][0], whole["lines"][-1], whole["truncated"]) == ("first", "last", False)
        assert client.get(path).json() == {"lines": ["pushed"], "truncated": True}
        console.node_process.terminate()
        console.node_process.wait(10)
        assert client.get(path, params={"whole": True}).json() == {"lines": ["pushed"], "truncated": True}
