"""Several hosts fetch the same new image at once, from a real web process and from each other."""

import hashlib
import os
import random
import threading
from uuid import uuid4

import pytest
from django.test import override_settings

from agent import jail
from agent.control_plane import ControlPlane
from agent.paths import Paths
from agent.work import Work
from cloud.hosts.models import Host
from cloud.hosts.services import digest
from storage.agent.cache_serving import Serving
from storage.agent.confined import Helpers
from storage.agent.image_cache import ImageCache
from storage.models import CachedFile, Layer
from tests import factories
from tests.servers import wait_until, web_and_streams
from tests.storage.agent.test_peers import free_port

pytestmark = pytest.mark.django_db(transaction=True)

HOSTS = 5
CONTENT = random.Random(5).randbytes(24 << 20)
NAME = hashlib.sha256(CONTENT).hexdigest()
FILE = {"sha256": NAME, "size": len(CONTENT), "format": "raw", "role": "disk"}


class Counting(ControlPlane):
    """Knows how many bytes of files the store has sent to all hosts together."""

    sent = 0

    def download(self, *arguments, **options):
        Counting.sent += len(CONTENT) - options.get("offset", 0)
        return super().download(*arguments, **options)


class RealHost:
    """The part of a host that fetches and serves images."""

    def __init__(self, number, url, home, monkeypatch):
        token = f"pileus-host-{number}"
        self.row = factories.host(token_digest=digest(token))
        Layer.objects.create(id=uuid4(), tree=uuid4(), host=self.row, base=FILE, size_gib=1)
        self.paths = Paths(home / str(number), home / f"run-{number}")
        self.paths.make()
        monkeypatch.setenv("PILEUS_PEER_ADDRESS", f"127.0.0.1:{free_port()}")
        client = Counting(url, token)
        self.cache = ImageCache(self.paths, client, lambda _: True, [])
        self.stopping = threading.Event()
        helpers = Helpers(self.paths, jail.probe(self.paths))
        self.serving = Serving(self.paths, helpers, client, self.cache, self.stopping)

    def serve(self):
        self.serving.start()
        wait_until(self.serving.describe)
        Host.objects.filter(pk=self.row.pk).update(
            capabilities={"image_cache": {"held": {}, **self.serving.describe()}}
        )

    def stop(self):
        self.stopping.set()
        self.serving.join(20)


@pytest.fixture
def servers(tmp_path, django_db_blocker, monkeypatch):
    (tmp_path / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("PILEUS_IMAGE_STORE", os.fspath(tmp_path))
    monkeypatch.setenv("PILEUS_IMAGE_STORE_STARTS", "1")
    with override_settings(IMAGE_STORE=tmp_path), web_and_streams(django_db_blocker) as running:
        yield running


def test_five_hosts_get_a_new_image_and_the_store_sends_it_once(servers, open_home, monkeypatch):
    Counting.sent = 0
    hosts = [RealHost(number, servers.url, open_home, monkeypatch) for number in range(HOSTS)]
    try:
        for host in hosts:
            host.serve()
        threads = [threading.Thread(target=host.cache.fetch, args=(FILE, Work())) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert all((host.cache.directory / NAME).read_bytes() == CONTENT for host in hosts)
        wait_until(lambda: CachedFile.objects.filter(state="here").count() == HOSTS)
        sources = list(CachedFile.objects.values_list("came_from", flat=True))
        print("the store sent", Counting.sent, "bytes of", HOSTS * len(CONTENT), "in", sources)
        assert sources.count(None) == 1
        assert Counting.sent == len(CONTENT)
        wait_until(lambda: sum(host.serving.describe()["served"]["bytes"] for host in hosts) == 4 * len(CONTENT))
    finally:
        for host in hosts:
            host.stop()
