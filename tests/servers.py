"""Real web and streams processes over the test database."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from django.db import connection

from cloud.embedded.ports import next_free

TREE = Path(__file__).resolve().parents[1]
REAL_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # web's; other tests hash fast


def database_url() -> str:
    facts = connection.settings_dict
    login = f"{facts['USER']}:{facts['PASSWORD']}@" if facts["PASSWORD"] else f"{facts['USER']}@"
    if facts["HOST"].startswith("/"):
        return f"postgresql://{login}/{facts['NAME']}?host={facts['HOST']}"
    return f"postgresql://{login}{facts['HOST']}:{facts['PORT']}/{facts['NAME']}"


def free_port() -> int:
    """A port for a server that is about to open it. Below those that the kernel gives to whoever connects meanwhile."""
    return next_free(range(18200, 19200), name="test")


@dataclass
class Servers:
    """The two processes, and a client of theirs."""

    environment: dict[str, str]
    url: str
    web: subprocess.Popen
    streams: subprocess.Popen | None = None

    def client(self, token: str, **options) -> httpx.Client:
        options.setdefault("timeout", 15)
        return httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, trust_env=False, **options
        )

    def start_streams(self) -> None:
        self.streams = subprocess.Popen([sys.executable, "-m", "cloud.streams"], env=self.environment, cwd=TREE)
        wait_until(Path(self.environment["PILEUS_STREAMS_SOCKET"]).exists)

    def stop_streams(self) -> None:
        if self.streams:
            self.streams.terminate()
            self.streams.wait(10)
            self.streams = None


def wait_until(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def servers(django_db_setup, django_db_blocker) -> Iterator[Servers]:
    with web_and_streams(django_db_blocker) as running:
        yield running


@contextlib.contextmanager
def web_and_streams(django_db_blocker) -> Iterator[Servers]:
    """Both processes, as the environment says where web's files are."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pileus-") as folder, django_db_blocker.unblock():
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "PILEUS_STREAMS_SOCKET": f"{folder}/streams.sock",
            "PILEUS_BIND": f"127.0.0.1:{port}",
            "PILEUS_URL": f"http://127.0.0.1:{port}",
            "PILEUS_WEB_WORKERS": "1",
            "PILEUS_WEB_THREADS": "4",
            "PILEUS_API_RATE": "1000000",  # what one test asks must not refuse the next one
            "PILEUS_API_BURST": "1000000",
            "PYTHONPATH": str(TREE),
        }
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", "python:cloud.web", "cloud.wsgi:application"]
        web = subprocess.Popen(gunicorn, env=environment, cwd=TREE)
        running = Servers(environment, f"http://127.0.0.1:{port}", web)
        try:
            running.start_streams()
            wait_until(lambda: is_alive(running.url))
            yield running
        finally:
            web.terminate()
            running.stop_streams()
            web.wait(10)


def is_alive(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    return False
