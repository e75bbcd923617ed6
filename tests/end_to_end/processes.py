"""The control plane's real processes and servers, each of which may be killed at any moment and comes back."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from cloud.embedded import ports, postgres, valkey
from cloud.embedded.accounts import Account, service_account
from cloud.embedded.files import make_folder
from cloud.embedded.paths import TREE
from cloud.embedded.processes import BEAT, CONTROL, WEB
from cloud.embedded.testing import TEST_REDIS_PORTS
from tests.servers import database_url, free_port

SECONDS_BETWEEN_LOOKS = 0.1
LOOPBACK = "127.0.0.1"


class Processes:
    """Starts each again when it has ended. `kill(name)` is SIGKILL, with its children."""

    def __init__(self, folder: Path) -> None:
        self.account: Account = service_account()
        self.folder, self.kills = folder, 0
        self._commands: dict[str, tuple[list[str], dict[str, str], Account | None]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep)

    def add(self, name: str, command: list[str], env: dict[str, str], account: Account | None = None) -> None:
        self._commands[name] = (command, env, account)
        self._start(name)
        if not self._keeper.is_alive():
            self._keeper.start()

    def kill(self, name: str) -> None:
        self.kills += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._running[name].pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)

    def end(self) -> None:
        self._over.set()
        self._keeper.join()
        for name in reversed(self._running):
            self.kill(name)
            self._running[name].wait()

    def _start(self, name: str) -> None:
        command, env, account = self._commands[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            who: dict[str, Any] = account.popen_arguments() if account else {}
            self._running[name] = subprocess.Popen(
                command, env=env, cwd="/" if account else TREE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **who
            )

    def _keep(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LOOKS):
            for name, process in list(self._running.items()):
                if process.poll() is not None:
                    self._start(name)


@contextlib.contextmanager
def servers(processes: Processes, address: str = LOOPBACK) -> Iterator[dict[str, str]]:
    """A PostgreSQL that keeps what it has committed when it is killed, and a Valkey at an address; gives their URLs."""
    folder, account = processes.folder, processes.account
    sockets, cluster, configuration = folder / "s", folder / "postgres" / "18", make_folder(folder / "servers")
    postgres.prepare(cluster, sockets, configuration, account)
    port, password = ports.next_free(TEST_REDIS_PORTS), "of-this-test"
    valkey.prepare(folder / "valkey", configuration, account, port=port, password=password)
    file = configuration / "valkey.conf"
    file.write_text(file.read_text().replace(LOOPBACK, address))
    plain = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    processes.add("postgres", postgres.server_command(cluster, sockets, configuration), plain, account)
    processes.add("valkey", valkey.server_command(configuration), plain, account)
    database_url = postgres.database_url(sockets)
    redis_url = valkey.redis_url(port, password).replace(LOOPBACK, address)
    postgres.wait_until_ready(database_url, create=True)
    valkey.wait_until_ready(redis_url)
    yield {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


def control_plane(processes: Processes, urls: dict[str, str], address: str = LOOPBACK, **settings: str) -> str:
    """Web, control and beat as the product starts them; gives web's URL."""
    port = free_port()
    url = f"http://{address}:{port}"
    env = {
        **os.environ, **urls, "PILEUS_BIND": f"{address}:{port}", "PILEUS_URL": url, "PILEUS_WEB_WORKERS": "1",
        "PILEUS_WEB_THREADS": "8", "PILEUS_STREAMS_SOCKET": str(processes.folder / "streams.sock"),
        "PYTHONPATH": str(TREE), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PILEUS_API_RATE": "10000", "PILEUS_API_BURST": "10000", **settings,
    }  # fmt: skip
    for process in (WEB, CONTROL, BEAT):
        processes.add(process.name, process.argv(env), {**env, "PILEUS_PROCESS": f"pileus-{process.name}"})
    return url


def copy_schema(to: str) -> None:
    """The schema of the test's database, which takes a second; migrations take twenty."""
    tools = postgres.binaries()
    dump = subprocess.run([tools / "pg_dump", database_url()], capture_output=True, check=True)
    subprocess.run(
        [tools / "psql", "-q", "-v", "ON_ERROR_STOP=1", to], input=dump.stdout, stdout=subprocess.DEVNULL, check=True
    )


def wait_for(condition: Any, seconds: float, what: Any) -> Any:
    """The condition's first true value. `what` is awaited, in words, or a function that says what is there instead."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.2)
    return value
