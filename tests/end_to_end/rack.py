"""Several real hosts on one wire, and the control plane that they have joined, each in namespaces of its own.

Nothing is faked: web, control and beat, PostgreSQL and Valkey on one side, workers and network processes on the other,
and guests under both hypervisors. The wire is 192.0.2.0/24; who is on it besides is the world outside.
"""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from django.core.management import call_command

from agent.errors import NoAnswer
from agent.paths import Paths
from cloud.embedded.paths import TREE
from network.agent.client import NetworkProcess
from network.agent.process import anchor_record
from tests import factories
from tests.cloud.events.test_restoring import connected_to
from tests.clouds import wait_until
from tests.end_to_end.processes import Processes, control_plane, copy_schema, servers
from tests.network.agent.lab import Space, wire

OUTSIDE = "192.0.2.254"
POOL = "192.0.2.128/26"
NETWORK = "10.0.0.0/24"  # of every project: they overlap on purpose
SSH = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR".split()
SECONDS_TO_ANSWER = 15
NO_CONNECTION = 255  # ssh's own code: there is no answer of the guest
EMULATED = {"x86_64": ("qemu", "tiny-linux"), "riscv64": ("unicorn", "tiny-linux-riscv64")}


class Host:
    """A host: its network, its mounts, its folder, which alone a reboot leaves, and its two processes."""

    def __init__(self, rack: "Rack", number: int) -> None:
        self.rack, self.name, self.address = rack, f"host{number}", f"192.0.2.{number}"
        self.folder = rack.folder / self.name
        self.folder.mkdir(mode=0o755)
        self.paths = Paths(home=self.folder / "home", runtime=self.folder / "run")
        self.environment = os.environ | {
            "PILEUS_AGENT_HOME": str(self.paths.home),
            "PILEUS_RUNTIME_DIR": str(self.paths.runtime),
            "PILEUS_AGENT_FIRST_UID": str(1_800_000_000 + number * 100_000),
            "PILEUS_POOLS": f"{POOL}=uplink",
            "PYTHONPATH": str(TREE),
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.power_on()

    def power_on(self) -> None:
        """A machine that has just booted, before its agent is started."""
        self.space = Space()
        wire(self.space, "uplink", self.rack.outside, self.name)
        self.rack.outside.run("ip", "link", "set", self.name, "master", "wire")
        self.space.run("ip", "address", "add", f"{self.address}/24", "dev", "uplink")
        self.space.run("ip", "route", "add", "default", "via", OUTSIDE)
        boot = self.folder / "boot_id"
        boot.write_text(f"{uuid.uuid4()}\n")
        self.space.run("mount", "--bind", str(boot), "/proc/sys/kernel/random/boot_id")

    def join(self, token: str) -> None:
        self._popen("join", self.rack.url, token, "--name", self.name, "--unconfined").wait(60)

    def start(self, *names: str) -> None:
        for name in names or ("network", "worker"):
            self.running[name] = self._popen(name)

    def _popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [*self.space.enter, sys.executable, "-m", "agent.cli", *arguments]
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(command, env=self.environment, cwd="/", stdout=log, stderr=log)

    def has_networks(self) -> bool:
        """Whether its network process answers, and has made some."""
        with contextlib.suppress(NoAnswer):
            return bool(NetworkProcess(self.paths).inventory()["resources"])
        return False

    def kill(self, *names: str) -> None:
        """End processes of the agent as a power cut does."""
        for name in names:
            self.running[name].kill()
            self.running.pop(name).wait()

    def power_off(self) -> None:
        """Everything ends at once: processes, emulators, namespaces; what is in its folder stays."""
        self.kill(*self.running)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(anchor_record(self.paths).read_text().split()[0]), signal.SIGKILL)
        for process in psutil.process_iter(["cmdline"]):
            if any(f"{self.folder}/" in word for word in process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.space.close()
        self.rack.outside.run("sh", "-c", f"ip link delete {self.name} 2>/dev/null || true")
        subprocess.run(["rm", "-rf", str(self.paths.runtime)], check=True)


class Rack:
    """The wire, the control plane on it, and hosts. Requests are a cloud admin's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outside = Space()
        self.outside.run("ip", "link", "add", "wire", "type", "bridge")
        self.outside.run("ip", "link", "set", "wire", "up")
        self.outside.run("ip", "address", "add", f"{OUTSIDE}/24", "dev", "wire")
        self.processes = Processes(folder)
        self.hosts: list[Host] = []
        self.url = self.token = ""

    @contextlib.contextmanager
    def running(self, images: list[Path]) -> Iterator["Rack"]:
        with self.outside.within(), servers(self.processes, address=OUTSIDE) as urls:
            copy_schema(urls["DATABASE_URL"])
            with connected_to(urls["DATABASE_URL"]):
                call_command("import_images", *images, stdout=sys.stderr)
                factories.flavor("tiny")
                self.token = factories.token(factories.user("root", is_cloud_admin=True))
            settings = {"PILEUS_ALLOW_EMULATION": "1", "PILEUS_DEFAULT_NETWORKS": NETWORK}
            self.url = control_plane(self.processes, urls, address=OUTSIDE, **settings)
            wait_until(self.answers, 60, 0.2, what="web answers")
        yield self

    def answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError), self.outside.within():
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).is_success
        return False

    def add_hosts(self, count: int) -> None:
        """Hosts that join by tokens and carry networks."""
        for number in range(1, count + 1):
            self.hosts.append(Host(self, number))
            self.hosts[-1].join(self.post("/hosts/join-tokens")["secret"])
            self.hosts[-1].start()
        wait_until(self.all_carry, 30, 0.2, what="all carry networks", told=self.logs)

    def all_carry(self) -> bool:
        found = self.get("/hosts")["items"]
        return len(found) == len(self.hosts) and all(
            host["capabilities"].get("network", {}).get("networks") for host in found
        )

    def get(self, path: str) -> dict[str, Any]:
        return self.ask("GET", path)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        return self.ask("POST", path, json=body)

    def ask(self, method: str, path: str, *, may_be: int = 0, **more: Any) -> dict[str, Any]:
        """The answer; fails for one that is neither a success nor what it may be."""
        headers = {"Authorization": f"Bearer {self.token}"}
        with self.outside.within():
            answer = httpx.request(
                method, f"{self.url}/api/v1{path}", headers=headers, timeout=30, trust_env=False, **more
            )
        assert answer.is_success or answer.status_code == may_be, f"{method} {path}: {answer.text}"
        return {"status_code": answer.status_code, **(answer.json() if answer.content else {})}

    def logs(self) -> str:
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*/*.log")]
        return "\n".join(f"== {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def close(self) -> None:
        for host in self.hosts:
            host.power_off()
        self.processes.end()
        self.outside.close()


class Tenant:
    """A project with a way in for its owner: a key, and a group that lets SSH in."""

    def __init__(self, rack: Rack, name: str) -> None:
        self.rack, self.path = rack, f"/projects/{name}"
        rack.post("/projects", name=name)
        self.key = rack.folder / f"{name}.key"
        self.key.touch(0o600)
        self.key.write_text(rack.post(f"{self.path}/keypairs", name="key")["secret"])

    def launch(self, name: str, on: Host, architecture: str, **wishes: Any) -> "Guest":
        hypervisor, image = EMULATED[architecture]
        body = {"flavor": "tiny", "image": image, "hypervisor": hypervisor, "keypairs": ["key"], "open_ssh": True}
        self.rack.post(f"{self.path}/instances", name=name, host=on.name, **body, **wishes)
        return Guest(self, name)

    def find(self, what: str, name: str) -> dict[str, Any]:
        return self.rack.get(f"{self.path}/{what}/{name}")


class Guest:
    """An instance, and a shell in it over a floating IP, as from anywhere outside."""

    def __init__(self, tenant: Tenant, name: str) -> None:
        self.tenant, self.rack, self.name = tenant, tenant.rack, name
        self.path = f"{tenant.path}/instances/{name}"
        self.way_in = self.rack.post(f"{tenant.path}/floating-ips", name=name, instance=name)["address"]

    @property
    def address(self) -> str:
        return str(self.rack.get(self.path)["addresses"][0]["address"])

    def ssh(self, command: str) -> list[str]:
        login = ["-o", "ConnectTimeout=3", "-i", str(self.tenant.key), f"root@{self.way_in}"]
        return [*self.rack.outside.enter, "ssh", *SSH, *login, command]

    def run(self, command: str, seconds: float = SECONDS_TO_ANSWER) -> subprocess.CompletedProcess[str]:
        """What came of one try. A connection that is cut hangs: that is a failure of ssh like any other."""
        login = self.ssh(command)
        try:
            return subprocess.run(login, check=False, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(login, NO_CONNECTION, "", f"no answer within {seconds} s")

    def answer(self, command: str) -> subprocess.CompletedProcess[str]:
        """What came of a command there, by the first connection that lasts. Fails in words when there is none."""
        tried = self.run(command)

        def answers() -> bool:
            nonlocal tried
            tried = tried if tried.returncode != NO_CONNECTION else self.run(command, 60)
            return tried.returncode != NO_CONNECTION

        what = f"{self.name} answers `{command}`"
        wait_until(answers, 120, 0.5, what, lambda: f"{tried.stderr.strip()}: {self.story()}")
        return tried

    def output(self, command: str) -> str:
        """What a command there prints, which has to succeed."""
        done = self.answer(command)
        assert done.returncode == 0, f"`{command}` in {self.name}: {done.returncode} {done.stdout}{done.stderr}"
        return done.stdout

    def pings(self, address: str, count: int = 3) -> bool:
        return self.answer(f"ping -q -c {count} -W 2 {address}").returncode == 0

    def hostname(self) -> str:
        """The name of whoever answers at its floating IP; "" when nobody does."""
        return self.run("hostname").stdout.strip()

    def wait_until_up(self) -> "Guest":
        wait_until(lambda: self.hostname() == self.name, 240, 0.5, self.name, self.story)
        return self

    def story(self) -> str:
        row = self.rack.get(self.path)
        lines = self.rack.get(f"{self.path}/console-log")["lines"][-5:]
        floating = self.rack.get(f"{self.tenant.path}/floating-ips/{self.name}")
        return f"{row['status']} {row['status_reason']} {lines} {floating['status_reason']} {self.run('hostname')}"
