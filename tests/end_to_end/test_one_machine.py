"""`./pileus` on a copy of the tree with an empty state folder: up, again, restart, killed, down, up."""

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import pytest

from cloud.embedded.paths import TREE, Home
from cloud.embedded.ports import next_free
from cloud.embedded.publish import publish
from cloud.embedded.supervisor import start_time

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


class OneMachine:
    """A copy of the tree, its state folder, and what the outside sees of it."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.root = folder / "tree", folder / "home"
        self.tree.mkdir()
        publish(TREE, self.tree)
        self.port = next_free(range(18080, 18180))
        not_ours = ("PILEUS_", "DATABASE_URL", "REDIS_URL", "DJANGO_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
        self.env |= {"PILEUS_HOME": str(self.root), "PILEUS_PORT": str(self.port)}
        self.first_up: subprocess.CompletedProcess[str] | None = None

    def pileus(self, *arguments, check=True):
        done = subprocess.run(
            [self.tree / "pileus", *arguments], cwd="/", env=self.env, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def logs(self):
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in self.home.log.glob("*.log")
        )

    @property
    def home(self):
        return Home(self.root)

    @property
    def credentials(self):
        return json.loads(self.home.credentials.read_text())

    def api(self, who="demo"):
        credentials = self.credentials
        headers = {"Authorization": f"Bearer {credentials[who]['token']}"}
        return httpx.Client(base_url=f"{credentials['url']}/api/v1", headers=headers, timeout=30, trust_env=False)

    def first(self):
        with self.api() as api:
            answer = api.get("/projects/demo/instances/first")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def boots(self):
        """How often the first VM's guest has said that it is up."""
        with self.api() as api:
            lines = api.get("/projects/demo/instances/first/console-log", params={"lines": 2000}).json()["lines"]
        return [line for line in lines if re.match(r"READY first \d", line)]

    def emulators(self):
        """pid and start time of the emulators of this state folder."""
        found = {}
        for process in psutil.process_iter(["name", "cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            if (process.info["name"] or "").startswith("qemu-system") and str(self.root) in words:
                found[process.pid] = start_time(process.pid)
        return found

    def processes(self):
        """Everything that still runs out of this folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with contextlib.suppress(psutil.Error):
                if any(str(self.root) in word for word in process.info["cmdline"] or []):
                    found.append(" ".join(process.info["cmdline"]))
        return found


@pytest.fixture(scope="module")
def machine():
    folder = Path(tempfile.mkdtemp(prefix="pileus-copy-"))
    folder.chmod(0o755)
    machine = OneMachine(folder)
    try:
        machine.first_up = machine.pileus("up")
        yield machine
    finally:
        machine.pileus("down", check=False)
        left, sockets = machine.processes(), machine.home.runtime
        shutil.rmtree(folder, ignore_errors=True)
        assert left == []
        assert not sockets.exists()


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.2)
    return found


def test_up_ends_with_a_guest_that_says_that_it_runs(machine):
    assert len(machine.boots()) == 1
    assert machine.first()["status"] == "running"
    assert len(machine.emulators()) == 1


def test_up_prints_url_logins_vm_and_seconds(machine):
    out = machine.first_up.stdout
    credentials = machine.credentials
    assert f"http://127.0.0.1:{machine.port}" in out
    for who in ("admin", "demo"):
        assert f"{credentials[who]['username']} / {credentials[who]['password']}" in out
    assert "first" in out
    assert re.search(r"The cloud is up: \d+\.\d s", out)
    assert "\033" not in out


def test_credentials_are_private_and_of_the_promised_shape(machine):
    assert stat.S_IMODE(machine.home.credentials.stat().st_mode) == 0o600
    credentials = machine.credentials
    assert credentials.keys() == {"url", "admin", "demo"}
    for who in ("admin", "demo"):
        assert credentials[who].keys() == {"username", "password", "token"}
        with machine.api(who) as api:
            assert api.get("/me").json()["username"] == credentials[who]["username"]


def test_no_secret_is_in_a_command_line_or_in_a_log(machine):
    memory = json.loads(machine.home.memory.read_text())
    secrets = [memory["secret_key"], memory["redis_password"]]
    secrets += [machine.credentials[who][kind] for who in ("admin", "demo") for kind in ("password", "token")]
    seen = "\n".join([*machine.processes(), *(log.read_text(errors="replace") for log in machine.home.log.iterdir())])
    assert not [secret for secret in secrets if secret in seen]


@pytest.mark.skipif(os.geteuid() != 0, reason="as an ordinary user everything runs as that user")
def test_only_the_host_worker_keeps_root(machine):
    users = {}
    for line in machine.pileus("status").stdout.splitlines():
        words = line.split()
        if words[1:2] == ["running"]:
            users[words[0]] = psutil.Process(int(words[2])).username()
    assert users.pop("host") == users.pop("supervisor") == "root"
    assert set(users.values()) == {"pileus"}
    assert users.keys() >= {"postgres", "valkey", "web", "streams", "control", "beat"}


def test_up_again_is_quick_and_keeps_everything(machine):
    before, credentials = machine.emulators(), machine.credentials
    began = time.monotonic()
    done = machine.pileus("up")
    assert time.monotonic() - began <= 10
    assert machine.credentials == credentials
    assert machine.emulators() == before
    assert len(machine.boots()) == 1
    assert credentials["admin"]["password"] not in done.stdout


def test_restart_leaves_machines_alone(machine):
    before = machine.emulators()
    machine.pileus("restart")
    assert machine.emulators() == before
    wait_for(lambda: machine.first()["status"] == "running")
    assert len(machine.boots()) == 1


def test_verify_finds_nothing(machine):
    machine.pileus("verify")


def test_a_killed_supervisor_takes_the_control_plane_along_and_no_machine(machine):
    before = machine.emulators()
    os.kill(json.loads(machine.home.pids.read_text())["supervisor"][0], signal.SIGKILL)
    wait_for(lambda: machine.pileus("status", check=False).returncode != 0)
    assert machine.emulators() == before
    machine.pileus("up")
    assert machine.emulators() == before
    wait_for(lambda: machine.first()["status"] == "running")


def test_down_powers_off_cleanly_and_leaves_nothing_and_up_brings_it_back(machine):
    machine.pileus("down")
    assert machine.processes() == []
    assert not machine.emulators()
    assert machine.pileus("status", check=False).returncode == 1
    machine.pileus("up")
    wait_for(lambda: len(machine.boots()) == 2)
    wait_for(lambda: machine.first()["status"] == "running")
    machine.pileus("verify")


def test_a_taken_port_is_reported_with_who_has_it(machine):
    machine.env["PILEUS_PORT"] = str(json.loads(machine.home.memory.read_text())["redis_port"])
    try:
        done = machine.pileus("up", check=False)
    finally:
        machine.env["PILEUS_PORT"] = str(machine.port)
    assert done.returncode == 1
    assert "is taken by valkey-server (pid" in done.stderr
