"""Image files that come from the cache of another host, over real TLS and from the real server."""

import hashlib
import json
import os
import random
import socket
import ssl
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from agent import jail
from agent.control_plane import ControlPlane
from agent.paths import Paths
from agent.work import Work
from storage import tickets
from storage.agent import cache_serving as serving
from storage.agent import fetch, peers
from storage.agent.cache_serving import Serving
from storage.agent.confined import Helpers
from storage.agent.image_cache import ImageCache
from storage.agent.peers import Peer, PeerBusy, PeerFailed
from tests.compute.agent.virtual import put_image_file

KEY = b"k" * 32
CONTENT = random.Random(58).randbytes(6 << 20)
NAME = hashlib.sha256(CONTENT).hexdigest()
ASKING = "00000000-0000-4000-8000-00000000000a"
SECONDS = 20.0


def until(true, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class ServingHost:
    """A host whose cache is served by the real program, confined as well as this machine can."""

    def __init__(self, number, control_plane, folder, monkeypatch, *, downloads=4, port=None):
        self.id = f"00000000-0000-4000-8000-{number:012}"
        paths = Paths(folder / "agent", folder / "run")
        paths.make()
        monkeypatch.setenv("PILEUS_PEER_ADDRESS", f"127.0.0.1:{port or free_port()}")
        monkeypatch.setenv("PILEUS_PEER_DOWNLOADS", str(downloads))
        client = ControlPlane(control_plane.url)
        self.cache = ImageCache(paths, client, lambda _: True, [])
        self.stopping = threading.Event()
        self.serving = Serving(paths, Helpers(paths, jail.probe(paths)), client, self.cache, self.stopping)
        self.serving.start()

    def ready(self):
        until(self.serving.describe)
        return self

    def put(self, content, name=None):
        path = self.cache.directory / (name or hashlib.sha256(content).hexdigest())
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o444)
        return path.name

    def told(self, name=NAME, *, to=ASKING, seconds=60, key=KEY, **others):
        serves = self.serving.describe()["serves"]
        ticket = tickets.write(key, name, to, int(time.time()) + seconds)
        told = {"id": self.id, "name": f"host {self.id[-1]}", "ticket": ticket}
        return {**told, "address": serves["address"], "fingerprint": serves["fingerprint"], **others}

    def peer(self, *arguments, **options):
        return Peer.of(self.told(*arguments, **options))

    def server(self):
        """The program itself, once it is what it was started as."""
        return until(lambda: next(filter(self._is_server, psutil.process_iter(["cmdline"])), None))

    def _is_server(self, process):
        words = process.info["cmdline"] or []
        return words[1:4] == ["-I", "-m", "storage.agent.cache_server"] and str(self.cache.directory) in words

    def stop(self):
        self.stopping.set()
        self.serving.join(SECONDS)
        assert not self.serving.is_alive()


@pytest.fixture(autouse=True)
def key(control_plane):
    control_plane.serving = {"key": KEY.hex(), "doubted": []}


@pytest.fixture
def make(control_plane, open_home, monkeypatch):
    made = []

    def one(**options):
        number = len(made) + 1
        host = ServingHost(number, control_plane, open_home / str(number), monkeypatch, **options)
        made.append(host)
        return host.ready()

    yield one
    for host in made:
        host.stop()


@pytest.fixture
def host(make):
    made = make()
    made.put(CONTENT)
    return made


@pytest.fixture
def cache(control_plane, tmp_path):
    paths = Paths(tmp_path / "asking", tmp_path / "asking-run")
    paths.make()
    return ImageCache(paths, ControlPlane(control_plane.url), lambda _: True, [])


@pytest.fixture
def file(control_plane, tmp_path):
    return put_image_file(control_plane, tmp_path, "disk", CONTENT)


def all_of(peer, name=NAME, offset=0):
    return b"".join(peer.pieces(name, offset, len(CONTENT), Work()))


def raw(host, request):
    """What it answers to these bytes, until it hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = peers.split(host.serving.describe()["serves"]["address"])
    with socket.create_connection(address, SECONDS) as plain, context.wrap_socket(plain) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
    return answer


# The server


def test_a_peer_gives_a_whole_file_or_the_rest_of_it(host):
    assert all_of(host.peer()) == CONTENT
    assert all_of(host.peer(), offset=len(CONTENT) - 5) == CONTENT[-5:]
    until(lambda: host.serving.describe()["served"] == {"files": 2, "bytes": len(CONTENT) + 5})
    assert host.serving.problems() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": b"x" * 32},
        {"seconds": -1},
        {"ticket": "-"},
        {"ticket": f"{int(time.time()) + 10**6}.{ASKING}.{'0' * 64}"},
        {"ticket": tickets.write(KEY, "0" * 64, ASKING, int(time.time()) + 10**6)},
        {"ticket": tickets.write(KEY, NAME, ASKING, int(time.time()) + 10**6).replace(ASKING[-2:], "bb")},
    ],
    ids=["another host's", "too old", "none", "invented", "of another file", "of another asker"],
)
def test_it_gives_nothing_without_a_ticket_for_this_file(host, wrong):
    with pytest.raises(PeerFailed, match="403"):
        all_of(host.peer(**wrong))


@pytest.mark.parametrize(
    "target",
    [
        *("/", "/files/", f"/files/{NAME}.part", f"/files/../files/{NAME}", f"//files/{NAME}", f"/files/{NAME}/"),
        *(f"/files/{NAME.upper()}", "/files/../../peers/identity.pem", "/files/%2e%2e/agent.json", f"/files/{NAME}?a"),
        f"https://other/files/{NAME}",
    ],
)
def test_no_path_leads_anywhere_else(host, target):
    (host.cache.directory / f"{NAME}.part").write_bytes(b"half")
    ticket = host.told()["ticket"]
    answer = raw(host, f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Ticket {ticket}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_a_link_in_the_cache_leads_nowhere(host):
    name = hashlib.sha256(b"?").hexdigest()
    (host.cache.directory / name).symlink_to(host.cache.directory / NAME)
    with pytest.raises(PeerFailed, match="404"):
        all_of(host.peer(name), name)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"PUT /files/{NAME} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", b"HTTP/1.1 405 "),
        (f"DELETE /files/{NAME} HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 405 "),
        ("nonsense\r\n\r\n", b""),
        (f"GET /files/{NAME} HTTP/1.1\r\nHost: a\r\nX: {'x' * 20_000}\r\n\r\n", b""),
    ],
)
def test_other_requests_are_refused(host, request_, status):
    try:
        answer = raw(host, request_.encode())
    except (ConnectionError, ssl.SSLError):
        answer = b""
    assert answer.startswith(status)
    assert bool(answer) == bool(status)
    assert all_of(host.peer()) == CONTENT


def test_a_part_beyond_the_end_is_refused(host):
    ask = f"GET /files/{NAME} HTTP/1.1\r\nHost: a\r\nRange: bytes={len(CONTENT)}-\r\nAuthorization: Ticket "
    answer = raw(host, f"{ask}{host.told()['ticket']}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 416 ")


def test_it_serves_no_more_hosts_at_once_than_it_may(make):
    host = make(downloads=2)
    host.put(CONTENT)
    first, second = (host.peer().pieces(NAME, 0, len(CONTENT), Work()) for _ in range(2))
    with closing(first), closing(second):
        next(first), next(second)
        with pytest.raises(PeerBusy):
            all_of(host.peer())
        assert sum(map(len, first)) > 0
    assert until(lambda: _or_busy(host)) == CONTENT


def _or_busy(host):
    try:
        return all_of(host.peer())
    except PeerBusy:
        return b""


def test_twenty_hosts_at_once_get_it_all_the_same(make):
    host = make(downloads=3)
    host.put(CONTENT)
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(until(lambda: _or_busy(host), 60) == CONTENT)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 20


def test_a_file_that_is_let_go_while_it_is_served_arrives_whole(host):
    pieces = host.peer().pieces(NAME, 0, len(CONTENT), Work())
    begin = next(pieces)
    host.cache.let_go(unused_seconds=0)
    (host.cache.directory / NAME).unlink(missing_ok=True)
    assert begin + b"".join(pieces) == CONTENT


def test_a_new_key_is_heard_of(host, control_plane, monkeypatch):
    monkeypatch.setattr(serving, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    control_plane.serving = {"key": (b"n" * 32).hex(), "doubted": []}

    def gets():
        try:
            return all_of(host.peer(key=b"n" * 32)) == CONTENT
        except PeerFailed:
            return False

    until(gets)
    with pytest.raises(PeerFailed, match="403"):
        all_of(host.peer())


def test_the_server_is_confined(host):
    process = host.server()
    describes = host.serving.describe()["serves"]
    if os.geteuid() != 0 or not describes["confined"]:
        pytest.skip("this machine cannot confine it")
    assert process.uids().real not in (0, os.geteuid())
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    own = os.readlink("/proc/self/ns/net")
    assert os.readlink(f"/proc/{process.pid}/ns/net") != own


def test_its_certificate_stays_when_it_begins_again(host):
    before = host.serving.describe()["serves"]["fingerprint"]
    host.server().kill()
    until(host.serving.problems)
    assert "ended by itself" in host.serving.problems()[0]["problem"]
    assert host.serving._make_identity(host.serving._helpers.uid_of_server) == before


def test_an_address_that_is_taken_is_said_and_tried_again(control_plane, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "SECONDS_BETWEEN_TRIES", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        host = ServingHost(1, control_plane, tmp_path / "1", monkeypatch, port=port)
        try:
            (problem,) = until(host.serving.problems)
            assert f"127.0.0.1:{port}" in problem["problem"]
            assert host.serving.describe() == {}
            taken.close()
            host.ready()
            assert host.serving.problems() == []
        finally:
            host.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PILEUS_PEER_ADDRESS", "10.0.0.7"), ("PILEUS_PEER_DOWNLOADS", "many")],
    ids=["address", "number"],
)
def test_a_setting_that_makes_no_sense_is_said(control_plane, tmp_path, monkeypatch, name, value):
    paths = Paths(tmp_path / "agent", tmp_path / "run")
    paths.make()
    monkeypatch.setenv("PILEUS_PEER_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv(name, value)
    client = ControlPlane(control_plane.url)
    stopping = threading.Event()
    cache = ImageCache(paths, client, lambda _: True, [])
    made = Serving(paths, Helpers(paths, jail.Jail()), client, cache, stopping)
    made.start()
    (problem,) = until(made.problems)
    stopping.set()
    assert value in problem["problem"]


# The client


def test_a_file_comes_from_a_peer_and_the_store_sends_nothing(host, cache, control_plane, file):
    control_plane.turn = {"peers": [host.told()]}
    assert cache.fetch(file, Work()).read_bytes() == CONTENT
    assert control_plane.sent_bytes == 0
    assert control_plane.turns[-1] == ("POST", {"size": len(CONTENT), "peer": host.id})


def test_small_files_come_from_the_store_without_a_question(cache, control_plane, tmp_path):
    cache.fetch(put_image_file(control_plane, tmp_path, "kernel", CONTENT[:1000]), Work())
    assert control_plane.turns == []


def test_a_control_plane_of_before_sends_it_all(cache, control_plane, file):
    assert cache.fetch(file, Work()).read_bytes() == CONTENT
    assert control_plane.sent_bytes == len(CONTENT)


@contextmanager
def standing_in(act):
    """A server of TLS with a certificate of its own, which does something with each connection; what a host is told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity = serving.new_identity()
    descriptor = os.memfd_create("identity")
    os.write(descriptor, identity.encode())
    context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(identity[identity.index("-----BEGIN CERT") :])).hexdigest()
    heard = []

    def attend(plain):
        try:
            with plain, context.wrap_socket(plain, server_side=True) as connection:
                heard.append(connection.recv(1 << 16))
                act(connection)
        except OSError:
            pass

    def serve(listening):
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(plain,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        about = {"id": "00000000-0000-4000-8000-0000000000ff", "name": "strange", "ticket": "t"}
        yield {**about, "address": f"127.0.0.1:{listening.getsockname()[1]}", "fingerprint": fingerprint}, heard
        listening.shutdown(socket.SHUT_RDWR)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(CONTENT)


def hang(connection):
    connection.recv(1)


def hang_in_the_middle(connection):
    connection.sendall(HEAD + CONTENT[:100_000])
    connection.recv(1)


def trickle(connection):
    for byte in HEAD + CONTENT:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def crawl(connection):
    connection.sendall(HEAD)
    for byte in CONTENT:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def lie(connection):
    connection.sendall(HEAD + CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))


def cut(connection):
    connection.sendall(HEAD + CONTENT[:1_000_000])


def talk_nonsense(connection):
    connection.sendall(b"SSH-2.0-OpenSSH\r\n" * 1000)


def give_another_length(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")


def redirect(connection):
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("act", "why", "wrong"),
    [
        (hang, "TimeoutError", False),
        (hang_in_the_middle, "TimeoutError", False),
        (trickle, "TimeoutError", False),
        (crawl, "too slow", False),
        (lie, "other bytes", True),
        (cut, "RemoteProtocolError", False),
        (talk_nonsense, "RemoteProtocolError", False),
        (give_another_length, "another size", False),
        (redirect, "302", False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_whatever_a_peer_does_the_file_comes_from_the_store(cache, control_plane, file, monkeypatch, act, why, wrong):
    for name in ("SECONDS_TO_ANSWER", "SECONDS_OF_SILENCE", "SECONDS_BEFORE_SLOW"):
        monkeypatch.setattr(peers, name, 0.5)
    with standing_in(act) as (told, _):
        control_plane.turn = {"peers": [told]}
        began = time.monotonic()
        assert cache.fetch(file, Work()).read_bytes() == CONTENT
        assert time.monotonic() - began < 5
    method, asked = [turn for turn in control_plane.turns if turn[0] == "PUT"][-1]
    (failure,) = asked["failed"]
    assert (failure["peer"], failure["wrong"]) == (told["id"], wrong)
    assert why in failure["problem"]


def test_a_peer_with_another_certificate_hears_nothing(cache, control_plane, file):
    with standing_in(hang) as (told, heard):
        control_plane.turn = {"peers": [{**told, "fingerprint": "0" * 64}]}
        assert cache.fetch(file, Work()).read_bytes() == CONTENT
    assert all(not words for words in heard)
    assert "certificate" in control_plane.turns[1][1]["failed"][0]["problem"]


def test_a_dead_peer_and_one_that_cannot_be_are_left_for_the_store(cache, control_plane, file):
    dead = {"id": "a", "name": "a", "ticket": "t", "fingerprint": "0" * 64, "address": f"127.0.0.1:{free_port()}"}
    control_plane.turn = {"peers": [dead, {**dead, "id": "b", "address": "nowhere"}, {**dead, "id": "c"}]}
    assert cache.fetch(file, Work()).read_bytes() == CONTENT
    assert control_plane.turns[2][1]["tried"] == ["a", "b"]
    assert not control_plane.turns[2][1]["peers"]


def test_what_a_peer_has_sent_is_not_fetched_again(host, cache, control_plane, file):
    with standing_in(cut) as (told, _):
        control_plane.turn = {"peers": [told]}
        assert cache.fetch(file, Work()).read_bytes() == CONTENT
    assert control_plane.sent_bytes == len(CONTENT) - 1_000_000
    cache.directory.joinpath(NAME).unlink()
    with standing_in(cut) as (told, _):
        control_plane.turn, control_plane.sent_bytes = {"peers": [told, host.told()]}, 0
        assert cache.fetch(file, Work()).read_bytes() == CONTENT
    assert control_plane.sent_bytes == 0


def test_when_several_sent_it_and_it_is_wrong_nobody_is_blamed_and_the_store_sends_it(cache, control_plane, file):
    def lie_and_cut(connection):
        connection.sendall(HEAD + bytes(1_000_000))

    with standing_in(lie_and_cut) as (told, _):
        control_plane.turn = {"peers": [told]}
        assert cache.fetch(file, Work()).read_bytes() == CONTENT
    failures = [failure for method, asked in control_plane.turns if method == "PUT" for failure in asked["failed"]]
    assert not any(failure["wrong"] for failure in failures)


def test_it_waits_for_a_peer_as_long_as_it_is_told_to(host, cache, control_plane, file, monkeypatch):
    control_plane.turn = {"wait": 0.05}
    done = threading.Thread(target=cache.fetch, args=(file, Work()))
    done.start()
    until(lambda: len(control_plane.turns) > 3)
    control_plane.turn = {"peers": [host.told()]}
    done.join(SECONDS)
    assert control_plane.sent_bytes == 0
    monkeypatch.setattr(fetch, "MAX_SECONDS_TO_WAIT", 0.2)
    cache.directory.joinpath(NAME).unlink()
    control_plane.turn = {"wait": 0.05}
    cache.fetch(file, Work())
    assert control_plane.sent_bytes == len(CONTENT)


def test_the_control_plane_hears_how_far_it_is(cache, control_plane, file, monkeypatch):
    monkeypatch.setattr(fetch, "SECONDS_BETWEEN_PROGRESS", 0.0)
    control_plane.turn = {}
    cache.fetch(file, Work())
    received = [body["received"] for method, body in control_plane.turns if method == "PATCH"]
    assert received
    assert received == sorted(received)


def test_a_file_that_others_doubt_is_read_and_thrown_away(make, control_plane, monkeypatch):
    monkeypatch.setattr(serving, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    host = make()
    host.put(CONTENT)
    damaged = host.put(CONTENT, hashlib.sha256(b"other").hexdigest())
    control_plane.serving = {"key": KEY.hex(), "doubted": [NAME, damaged, "../../agent.json"]}
    until(lambda: not (host.cache.directory / damaged).exists())
    assert (host.cache.directory / NAME).exists()
    assert damaged[:12] in host.cache.problems[0]["problem"]


def test_a_host_tells_what_it_has_the_latest_first(host):
    others = [host.put(str(number).encode()) for number in range(5)]
    (host.cache.directory / f"{NAME}.part").write_bytes(b"half")
    for age, name in enumerate([*others, NAME]):
        os.utime(host.cache.directory / name, (1_000_000 - age,) * 2)
    told = serving.held(host.cache.directory, 3)
    assert list(told) == others[:3]
    assert json.loads(json.dumps(told)) == told
