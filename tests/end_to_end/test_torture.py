"""Random operations by four clients while web, control, Valkey, PostgreSQL and the host's worker are killed.

Afterwards nothing leaks, nothing is stuck, nothing was done twice, and every promise holds. Machines are fakes, all
else is real. PILEUS_TORTURE=1000 says how many operations; without it there are few enough for each run of the tests.
"""

import os
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

import httpx
import pytest
from django.db import connection, transaction

from cloud.events import place
from cloud.events.services import SYSTEM
from cloud.hosts import services as hosts
from cloud.operations.invariants import invariants
from cloud.operations.models import Operation
from compute.models import Instance
from tests import factories
from tests.cloud.events.test_restoring import connected_to
from tests.end_to_end.processes import Processes, control_plane, copy_schema, servers, wait_for
from tests.fakes import FakeNode

pytestmark = [pytest.mark.vm, pytest.mark.django_db(transaction=True), pytest.mark.timeout(3600)]

OPERATIONS = int(os.environ.get("PILEUS_TORTURE", "60"))
CLIENTS = 4
MEAN_SECONDS_BETWEEN_KILLS = 1.5  # from when all answer again
VERBS = ("launch", "launch", "launch", "stop", "start", "reboot", "pause", "resume", "suspend", "delete", "relabel")
MAX_INSTANCES = 12  # instances of a client at once
INSTANCES = "/api/v1/projects/demo/instances"


class Worker(threading.Thread):
    """A host's worker: looks, heartbeats, and is now and then killed and started again."""

    def __init__(self, url: str, home: Path, token: str) -> None:
        super().__init__(daemon=True)
        self.client = httpx.Client(base_url=url, timeout=20, trust_env=False)
        self.doubles: list[str] = []
        self.over = threading.Event()
        self.restarts = 0
        self.node = FakeNode.join(
            self._send, token=token, name="node1", home=home,
            capacity={"vcpus": 64, "memory_mib": 65536, "disk_gib": 2000},
        )  # fmt: skip

    def _send(self, method, path, body, token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if isinstance(body, tuple):
            headers["X-Log-Offset"] = str(body[0])
            answer = self.client.request(method, path, content=body[1], headers=headers)
        else:
            answer = self.client.request(method, path, json=body, headers=headers)
        return answer.status_code, answer.json() if answer.content else {}

    def run(self) -> None:
        chance = random.Random(7)
        while not self.over.is_set():
            try:
                self.node.heartbeat()
                for _ in range(chance.randrange(5, 15)):
                    self.node.look()
                    self.over.wait(0.1)
            except AssertionError as double:
                self.doubles.append(str(double))
            except Exception:  # the control plane was killed: a worker tries again
                self.over.wait(0.2)
            if chance.random() < 0.2:
                self.node, self.restarts = self.node.restart(), self.restarts + 1


class Client(threading.Thread):
    """Asks for random verbs of random machines of its own, as patiently as a good client."""

    def __init__(self, url: str, token: str, number: int, operations: int) -> None:
        super().__init__()
        self.http = httpx.Client(
            base_url=url, timeout=20, trust_env=False, headers={"Authorization": f"Bearer {token}"}
        )
        self.number, self.operations = number, operations
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.made: set[str] = set()

    def run(self) -> None:
        try:
            self.work()
        except AssertionError as fault:
            self.faults.append(str(fault))

    def work(self) -> None:
        chance = random.Random(self.number)
        for count in range(self.operations):
            verb = chance.choice(VERBS)
            known = sorted(self.made)
            if verb == "launch" and len(known) < MAX_INSTANCES or not known:
                name = f"c{self.number}-{count}"
                answer = self.ask("POST", "", {"name": name, "flavor": "tiny", "image": "tiny-linux"})
                self.made |= {name} if answer.status_code == 202 else set()
                continue
            name = chance.choice(known)
            if verb in ("launch", "delete"):
                answer = self.ask("DELETE", f"/{name}?purge=true", None)
                self.made -= {name} if answer.status_code in (202, 404) else set()
            elif verb == "relabel":
                self.ask("PATCH", f"/{name}", {"labels": {"count": str(count)}})
            else:
                self.ask("POST", f"/{name}/{verb}", {})

    def ask(self, method: str, path: str, body) -> httpx.Response:
        key = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}
        until = time.monotonic() + 120
        while True:
            try:
                answer = self.http.request(method, INSTANCES + path, json=body, headers=key)
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code not in (429, 503):
                break
            assert time.monotonic() < until, f"{method} {path} was never answered"
            time.sleep(0.1)
        self.answers[f"{answer.status_code}"] += 1
        if answer.status_code >= 500:
            self.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer


def quiet() -> bool:
    return not Operation.objects.filter(finished_at=None).exists()


def breaches() -> list[str]:
    return [f"{item.code}: {breach.words}" for item in invariants() for breach in item.check()]


@pytest.fixture
def world():
    with tempfile.TemporaryDirectory(prefix="p-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        processes = Processes(folder)
        try:
            with servers(processes) as urls:
                copy_schema(urls["DATABASE_URL"])
                with connected_to(urls["DATABASE_URL"]):
                    yield processes, urls, folder
        finally:
            processes.end()


def test_nothing_leaks_sticks_or_doubles_whatever_is_killed(world):
    processes, urls, folder = world
    place.note_place()  # the schema was copied here
    project = factories.project("demo", limits={})
    factories.flavor("tiny")
    factories.image("tiny-linux", files=[])
    tokens = [factories.token(factories.member(project)) for _ in range(CLIENTS)]
    with transaction.atomic():
        _, secret = hosts.make_join_token(actor=SYSTEM)
    url = control_plane(processes, urls)
    wait_for(lambda: ready(url), 90, "web answers")
    worker = Worker(url, folder / "host", secret)
    worker.start()
    clients = [Client(url, token, number, OPERATIONS // CLIENTS) for number, token in enumerate(tokens)]
    began = time.monotonic()
    for client in clients:
        client.start()
    chance = random.Random(1)
    while any(client.is_alive() for client in clients):
        wait_for(lambda: ready(url), 90, "web answers again")
        time.sleep(chance.uniform(0, 2) * MEAN_SECONDS_BETWEEN_KILLS)
        processes.kill(chance.choice(("web", "control", "valkey", "postgres", "beat")))
    seconds = time.monotonic() - began
    try:
        wait_for(lambda: ready(url), 90, "web answers again")
        connection.close()
        wait_for(quiet, 300, "all work comes to an end")
        wait_for(lambda: not breaches(), 90, breaches)
        for name in Instance.objects.values_list("name", flat=True):
            clients[0].ask("DELETE", f"/{name}?purge=true", None)
        wait_for(lambda: not Instance.objects.exists() and quiet(), 300, "all are deleted")
        wait_for(lambda: not worker.node.hypervisor.running(), 30, "no machine is left on the host")
        wait_for(lambda: not breaches(), 90, breaches)
    finally:
        worker.over.set()
        worker.join(30)
    answers = sum((client.answers for client in clients), Counter())
    print(
        f"\n{OPERATIONS} operations in {seconds:.0f} s, {processes.kills} kills, {worker.restarts} of the worker; ",
        end="",
    )
    print(", ".join(f"{count} × {status}" for status, count in sorted(answers.items())))
    assert worker.doubles == []
    assert [fault for client in clients for fault in client.faults] == []


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).is_success
    except httpx.HTTPError:
        return False
