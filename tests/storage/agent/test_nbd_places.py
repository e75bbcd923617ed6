"""Users and folders of the servers of images, with real servers."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent import jail
from agent.jail import probe
from agent.paths import Paths
from storage.agent import nbd_places, relays
from storage.agent.confined import HELPERS, SERVER
from storage.agent.nbd import Opened, Server, write_key
from tests.clouds import wait_until
from tests.hosts import open_home  # noqa: F401

KILLED = """
import sys, time
from pathlib import Path
from storage.agent import nbd_places
with nbd_places.taken(Path(sys.argv[1])) as place:
    (place.folder / "key").write_text("secret")
    print(place.number, flush=True)
    time.sleep(600)
"""


class OnDisk:
    """A file, with a key that nobody asks for."""

    def __init__(self, path):
        self.path = path

    @contextlib.contextmanager
    def opened(self, folder, uid):
        self.keys = folder / "keys"
        self.keys.mkdir()
        write_key(self.keys, "00" * 32, uid)
        yield Opened({"driver": "file", "filename": str(self.path)}, ())

    def in_words(self, said, error):
        return said


@pytest.fixture
def home(open_home):  # noqa: F811
    paths = Paths(open_home / "host", open_home / "run")
    paths.make()
    yield paths.home
    for server in relays.find(paths.home):
        os.kill(server.pid, signal.SIGKILL)


def test_each_server_has_a_user_of_its_own_as_long_as_it_lives(home):
    paths = Paths(home, home.parent / "run")
    image = home / "image"
    image.write_bytes(bytes(1 << 20))
    image.chmod(0o666)
    jail_ = probe(paths)
    connections, source = [], OnDisk(image)
    for number in range(2):
        connections.append(socket.socket(fileno=Server(home, source, str(number)).start(jail_, read_only=True)))
        assert not source.keys.exists()
    servers = {one.holder: one.pid for one in relays.find(home)}
    users = {Path(f"/proc/{pid}").stat().st_uid for pid in servers.values()}
    assert len(users) == (2 if jail_.uid else 1)
    assert not jail_.uid or min(users) >= jail.first_uid() + nbd_places.BLOCK
    with nbd_places.taken(home) as place:
        assert place.number == 2, "the worker may end: they keep their places"
    connections[0].close()
    os.kill(servers["0"], signal.SIGKILL)

    def is_free():
        with nbd_places.taken(home) as place:
            return place.number == 0

    wait_until(is_free)
    connections[1].close()


def test_what_a_killed_worker_left_is_removed(home):
    with nbd_places.taken(home) as mine:
        child = subprocess.Popen([sys.executable, "-c", KILLED, home], stdout=subprocess.PIPE, text=True)
        number = int(child.stdout.readline())
        nbd_places.sweep(home)
        key = home / "servers" / str(number) / "key"
        assert key.exists(), "it is at work"
        child.kill()
        child.wait()
        nbd_places.sweep(home)
        assert not key.parent.exists()
        assert mine.folder.exists()


def test_where_there_are_few_users_the_last_is_shared(home, monkeypatch):
    first = jail.first_uid() + jail.UIDS
    monkeypatch.setattr(jail, "is_mapped", lambda uid: uid < jail.first_uid() + nbd_places.BLOCK)
    found = [nbd_places.Place(number, home, 0).uid for number in range(100)]
    assert len(set(found)) == SERVER - HELPERS
    assert set(found) <= set(range(first + HELPERS, first + SERVER))


def test_users_of_the_first_user_namespace_are_mapped():
    assert jail.is_mapped(os.getuid())
