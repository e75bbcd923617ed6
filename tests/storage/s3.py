"""An S3 store for tests: moto's server, a process of its own on loopback."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest
from botocore.session import Session

from storage import buckets

KEY = {"access_key": "pileus", "secret_key": "of-tests-only"}
HURRIED = {"connect_timeout": 0.5, "read_timeout": 0.5, "retries": {"mode": "standard", "total_max_attempts": 1}}
SERVER = """
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Server:
    """A running one."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process, self.port = process, int(process.stdout.readline())
        self.settings = {"endpoint": f"http://127.0.0.1:{self.port}", "region": "us-east-1", "path_style": True, **KEY}
        self.client = Session().create_client(
            "s3", endpoint_url=self.settings["endpoint"], region_name="us-east-1",
            aws_access_key_id=KEY["access_key"], aws_secret_access_key=KEY["secret_key"],
        )  # fmt: skip

    def make_bucket(self) -> str:
        name = f"b{uuid4()}"
        self.client.create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> set[str]:
        return {found["Key"] for found in self.client.list_objects_v2(Bucket=bucket).get("Contents", ())}

    @contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and says nothing, for which nobody waits long. It may obey afterwards."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.MonkeyPatch.context() as hurried:
                for name in ("QUICK", "PATIENT"):
                    hurried.setattr(buckets, name, HURRIED)
                buckets._client_of.cache_clear()
                yield
        finally:
            self.process.send_signal(signal.SIGCONT)
            buckets._client_of.cache_clear()
            buckets._gates.clear()

    @contextmanager
    def strict(self) -> Iterator[None]:
        """It asks who somebody is, and knows nobody."""
        self._take_without_question("0")
        try:
            yield
        finally:
            self._take_without_question("inf")
            buckets._gates.clear()

    def _take_without_question(self, requests: str) -> None:
        httpx.post(f"{self.settings['endpoint']}/moto-api/reset-auth", content=requests).raise_for_status()


@contextmanager
def running() -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    with process:
        try:
            yield Server(process)
        finally:
            process.kill()
