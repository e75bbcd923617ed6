"""The whole worker as a process of its own: real Celery, real Valkey, real HTTP, real machines."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from celery import Celery

from tests.compute.agent.test_qemu import wait_for
from tests.compute.agent.virtual import GREETING, QemuNode
from tests.servers import free_port

pytestmark = pytest.mark.vm

PREFIX, QUEUE = "h:1:", "host.1"
COMMAND = [sys.executable, "-m", "agent.cli"]


class WorkerProcess:
    """`pileus-agent worker` for a host that has joined the stand-in."""

    def __init__(self, home: Path, url: str, redis_url: str) -> None:
        self.home = home
        self.url = url
        (home / "agent").mkdir()
        self.join(redis_url)
        QemuNode(url, home)  # probes once, from what is kept
        self.environment = os.environ | {
            "PILEUS_AGENT_HOME": str(home / "agent"),
            "PILEUS_RUNTIME_DIR": str(home / "run"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def join(self, redis_url: str) -> None:
        member = {"url": self.url, "host_id": "1", "name": "node1", "token": "t", "redis_url": redis_url}
        member |= {"key_prefix": PREFIX, "queue": QUEUE, "heartbeat_seconds": 10}
        (self.home / "agent/agent.json").write_text(json.dumps(member))

    def start(self) -> None:
        with (self.home / "worker.log").open("ab") as log:
            self.process = subprocess.Popen([*COMMAND, "worker"], env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(30)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], env=self.environment, capture_output=True, text=True, check=False)

    @property
    def log(self) -> str:
        return (self.home / "worker.log").read_text()


class Valkey:
    """A Valkey of this test's own; `kill` and `start` it as wanted."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.move()
        self.process: subprocess.Popen[bytes] | None = None

    def move(self) -> None:
        """Its next start is on another port."""
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        from cloud.embedded.valkey import server

        settings = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.home))
        self.process = subprocess.Popen([str(server()), *settings], stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)
        wait_for(lambda: _answers(client), 20)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def ring(self) -> None:
        transport = {"global_keyprefix": PREFIX}
        app = Celery("bell", broker=self.url, broker_transport_options=transport, set_as_current=False)
        app.send_task("host.look", queue=QUEUE)
        app.close()


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


@pytest.fixture
def valkey(tmp_path):
    server = Valkey(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def worker(control_plane, open_home, valkey):
    made = WorkerProcess(open_home, control_plane.url, valkey.url)
    yield made
    if made.process:
        made.stop()
    node = QemuNode(control_plane.url, open_home)
    control_plane.down = False
    for entry in node.ledger.entries():
        control_plane.order("ensure_gone", {"id": entry.id}, entry.generation + 1)
    control_plane.leased.clear()
    node.look_once()
    assert node.ledger.entries() == []


def seen(control_plane, spec, word, times=1):
    wait_for(lambda: control_plane.seen(spec["id"]).count(word) >= times, 60)


def test_a_bell_is_heard_at_once(worker, valkey, control_plane, kernel_spec):
    valkey.start()
    worker.start()
    wait_for(lambda: control_plane.beats, 30)
    wait_for(lambda: redis.Redis.from_url(valkey.url).client_list() and _is_listening(valkey), 30)
    order = control_plane.order("ensure_running", kernel_spec, 1)
    began = time.monotonic()
    valkey.ring()
    wait_for(lambda: order["id"] in control_plane.leased, 60)
    assert time.monotonic() - began < 10  # it would look by itself after 15 s
    seen(control_plane, kernel_spec, "running")
    wait_for(lambda: GREETING in control_plane.logs.get(kernel_spec["id"], (0, b""))[1], 20)
    assert worker.stop() == 0
    assert len(QemuNode.emulators(kernel_spec["id"])) == 1


def _is_listening(valkey):
    return any("brpop" in client["cmd"] for client in redis.Redis.from_url(valkey.url).client_list())


def test_it_works_without_redis_and_hears_bells_when_redis_comes(worker, valkey, control_plane, kernel_spec):
    control_plane.order("ensure_running", kernel_spec, 1)
    worker.start()
    seen(control_plane, kernel_spec, "running")
    valkey.start()
    wait_for(lambda: _is_listening(valkey), 60)
    valkey.kill()
    control_plane.order("ensure_stopped", {**kernel_spec, "stop": {"force": True}}, 2)
    seen(control_plane, kernel_spec, "stopped")
    assert worker.process.poll() is None


def test_bells_are_heard_again_when_the_broker_has_moved(worker, valkey, control_plane, kernel_spec):
    """The control plane came back with Valkey on another port; the host has joined long before."""
    valkey.start()
    worker.join(valkey.url.replace("redis://", "redis://default:@"))
    worker.start()
    wait_for(lambda: _is_listening(valkey), 60)
    wait_for(lambda: control_plane.beats and control_plane.beats[-1]["problems"] == [], 60)
    valkey.kill()
    wait_for(lambda: [each["what"] for each in control_plane.beats[-1]["problems"]] == ["bells"], 60)
    valkey.move()
    valkey.start()
    control_plane.broker = valkey.url
    wait_for(lambda: _is_listening(valkey), 60)
    kept = json.loads((worker.home / "agent/agent.json").read_text())
    assert kept["redis_url"] == valkey.url.replace("redis://", "redis://default:@")
    order = control_plane.order("ensure_running", kernel_spec, 1)
    began = time.monotonic()
    valkey.ring()
    wait_for(lambda: order["id"] in control_plane.leased, 60)
    assert time.monotonic() - began < 10  # it would look by itself after 15 s
    seen(control_plane, kernel_spec, "running")
    wait_for(lambda: control_plane.beats[-1]["problems"] == [], 30)
    assert worker.stop() == 0


def test_it_works_on_when_redis_refuses_it_and_hears_bells_when_it_is_let_in(
    worker, valkey, control_plane, kernel_spec
):
    valkey.start()
    admin = redis.Redis.from_url(valkey.url)
    admin.execute_command("ACL", "SETUSER", "h-1", "on", ">pw", "~*", "&*", "+@all", "-brpop")
    worker.join(valkey.url.replace("redis://", "redis://h-1:pw@"))
    control_plane.order("ensure_running", kernel_spec, 1)
    worker.start()
    seen(control_plane, kernel_spec, "running")
    wait_for(lambda: "Celery ended" in worker.log, 60)
    admin.execute_command("ACL", "SETUSER", "h-1", "+brpop")
    wait_for(lambda: _is_listening(valkey), 60)
    control_plane.order("ensure_stopped", {**kernel_spec, "stop": {"force": True}}, 2)
    valkey.ring()
    seen(control_plane, kernel_spec, "stopped")
    assert worker.stop() == 0


def test_a_killed_worker_leaves_its_machines_to_the_next(worker, control_plane, kernel_spec):
    control_plane.order("ensure_running", kernel_spec, 1)
    worker.start()
    seen(control_plane, kernel_spec, "running")
    (emulator,) = QemuNode.emulators(kernel_spec["id"])
    worker.kill()
    assert emulator.is_running()
    beats = len(control_plane.beats)
    worker.start()
    wait_for(lambda: len(control_plane.beats) > beats, 30)
    control_plane.samples.clear()
    wait_for(lambda: "cpu_percent" in {name for sample in control_plane.samples for name in sample}, 40)
    assert control_plane.beats[-1]["inventory"][0]["seen"] == "running"
    assert [found.pid for found in QemuNode.emulators(kernel_spec["id"])] == [emulator.pid]
    emulator.send_signal(signal.SIGKILL)
    seen(control_plane, kernel_spec, "stopped")
    assert control_plane.last(kernel_spec["id"])["facts"]["cause"] == "crash"


def test_an_order_in_hand_is_finished_by_the_next_worker(worker, control_plane, kernel_spec):
    control_plane.order("ensure_running", kernel_spec, 1)
    worker.start()
    seen(control_plane, kernel_spec, "running")
    control_plane.order("ensure_stopped", {**kernel_spec, "stop": {"force": False, "grace_seconds": 6}}, 2)
    wait_for(lambda: control_plane.leased.keys() & {order["id"] for order in control_plane.orders.values()}, 30)
    worker.kill()
    worker.start()
    seen(control_plane, kernel_spec, "stopped")
    assert QemuNode.emulators(kernel_spec["id"]) == []


def test_machines_do_not_notice_that_the_control_plane_is_away(worker, control_plane, kernel_spec):
    control_plane.order("ensure_running", kernel_spec, 1)
    worker.start()
    seen(control_plane, kernel_spec, "running")
    control_plane.down = True
    (emulator,) = QemuNode.emulators(kernel_spec["id"])
    time.sleep(3)
    emulator.send_signal(signal.SIGKILL)
    time.sleep(2)
    assert "stopped" not in control_plane.seen(kernel_spec["id"])
    control_plane.down = False
    seen(control_plane, kernel_spec, "stopped")
    assert worker.process.poll() is None


def test_stop_all_and_the_next_worker_starts_them_again(worker, control_plane, kernel_spec):
    control_plane.order("ensure_running", kernel_spec, 1)
    worker.start()
    seen(control_plane, kernel_spec, "running")
    assert worker.stop() == 0
    assert kernel_spec["id"] in worker.run("status").stdout
    stopped = worker.run("stop-all", "--grace", "1")
    assert (stopped.returncode, stopped.stdout) == (0, "1 machine switched off\n")
    assert QemuNode.emulators(kernel_spec["id"]) == []
    worker.start()
    seen(control_plane, kernel_spec, "running", times=2)
    assert control_plane.seen(kernel_spec["id"]) == ["running", "stopped", "running"]
    assert len(QemuNode.emulators(kernel_spec["id"])) == 1


def test_a_host_that_has_not_joined_says_so(worker):
    shutil.move(worker.home / "agent/agent.json", worker.home / "elsewhere")
    refusal = worker.run("worker")
    assert refusal.returncode == 1
    assert "has not joined" in refusal.stderr
