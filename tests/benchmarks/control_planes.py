"""A whole control plane from a checkout of this project, on a database of its own, with a host that starts nothing.

So the code of two checkouts can be measured in one run, by turns: what else the machine does then falls on both.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg

from tests.servers import TREE, free_port, is_alive, wait_until

HERE = Path(__file__).parent
COMMANDS = """
import json, os
from cloud.embedded.processes import CONTROL_PLANE
print(json.dumps({process.name: process.argv(os.environ) for process in CONTROL_PLANE}))
"""


@dataclass
class ControlPlane:
    """Its processes, as `./pileus` starts them, and its host."""

    name: str
    tree: Path
    url: str
    environment: dict[str, str]
    token: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1/projects/bench", headers=headers, trust_env=False, timeout=60)

    def python(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", *arguments]

    def run(self, *arguments: str) -> str:
        """What a program of this checkout prints."""
        done = subprocess.run(
            self.python(*arguments), cwd=self.tree, env=self.environment, check=True, stdout=subprocess.PIPE
        )
        return done.stdout.decode()

    def begin(self, name: str, *arguments: str, cwd: Path | None = None) -> None:
        log = Path(self.environment["HOME"]) / f"{name}.log"
        with log.open("wb") as output:
            self.processes[name] = subprocess.Popen(
                self.python(*arguments), cwd=cwd or self.tree, env=self.environment, stdout=output, stderr=output
            )

    def end(self) -> None:
        self.database.close()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @cached_property
    def commands(self) -> dict[str, list[str]]:
        """Those of the checkout itself, by the names of its processes, as arguments of Python."""
        told: dict[str, list[str]] = json.loads(self.run("-c", COMMANDS))
        return {name: rest if word == "python" else ["-m", word, *rest] for name, (word, *rest) in told.items()}

    @cached_property
    def database(self) -> psycopg.Connection:
        return psycopg.connect(self.environment["DATABASE_URL"], autocommit=True)

    def count(self, condition: str) -> int:
        """How many rows there are of `FROM …`, asked beside the control plane."""
        found = self.database.execute(f"SELECT count(*) FROM {condition}").fetchone()  # type: ignore[arg-type]
        return int(found[0]) if found else 0

    def settle(self, seconds: float = 300) -> None:
        """Wait until no work is under way."""
        wait_until(lambda: self.count("operations_operation WHERE finished_at IS NULL") == 0, seconds)

    def members(self) -> dict[str, list[psutil.Process]]:
        """Its processes by what they are; the host's are none of them."""
        roots = {name: psutil.Process(self.processes[name].pid) for name in self.commands}
        return {name: [root, *root.children(recursive=True)] for name, root in roots.items()}

    def pss_mib(self) -> dict[str, float]:
        """The memory of its processes, what they share divided among them."""
        return {
            name: sum(float(one.memory_full_info().pss) for one in every) / 2**20
            for name, every in self.members().items()
        }

    def cpu_seconds(self) -> dict[str, float]:
        """The processor time that its processes have taken, and the server processes of its database."""
        backends = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        serving = [psutil.Process(pid) for (pid,) in self.database.execute(backends)]
        taken = {}
        for name, every in {**self.members(), "postgres": serving}.items():
            times = [one.cpu_times() for one in every]
            taken[name] = sum(each.user + each.system for each in times)
        return taken


@contextmanager
def control_plane(name: str, tree: Path, number: int) -> Iterator[ControlPlane]:
    """The `number`-th of this run, with a project `bench`, a flavor and an image `tiny`, and a host `big`."""
    database = f"bench_{number}"
    server = os.environ["DATABASE_URL"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")  # type: ignore[arg-type]
        connection.execute(f"CREATE DATABASE {database}")  # type: ignore[arg-type]
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "HOME": folder,
            "PYTHONPATH": str(tree),
            "DJANGO_SETTINGS_MODULE": "cloud.settings",
            "DATABASE_URL": urlsplit(server)._replace(path=f"/{database}").geturl(),
            "REDIS_URL": urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{number}").geturl(),
            "PILEUS_STREAMS_SOCKET": f"{folder}/streams.sock",
            "PILEUS_BIND": f"127.0.0.1:{port}",
            "PILEUS_URL": f"http://127.0.0.1:{port}",
            "PILEUS_API_RATE": "1000000",
            "PILEUS_API_BURST": "1000000",
            "MALLOC_ARENA_MAX": "2",
        }
        running = ControlPlane(name, tree, f"http://127.0.0.1:{port}", environment)
        running.run("-m", "django", "migrate", "--no-input", "--verbosity=0")
        secrets = json.loads(running.run(str(HERE / "seed.py")))
        running.token = secrets["token"]
        try:
            for process, arguments in running.commands.items():
                running.begin(process, *arguments)
            wait_until(lambda: is_alive(running.url), 120)
            # The same host for both: it is this checkout's, and not what is measured.
            running.begin("host", str(HERE / "obeying_host.py"), running.url, secrets["join"], cwd=TREE)
            wait_until(lambda: running.count("hosts_hostpulse") == 1)
            yield running
        finally:
            running.end()


def at_once(clients: int, work: Any, items: list[Any]) -> list[Any]:
    """`work(item)` for each, by so many threads."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(work, items))
