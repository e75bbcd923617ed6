"""Bringing the control plane up: database, doorbell, schema, processes, each waited for until it really answers."""

import json
import time
from collections.abc import Sequence
from typing import Any

import httpx

from cloud.embedded import environment, ports, postgres, valkey
from cloud.embedded.accounts import Account
from cloud.embedded.errors import Trouble
from cloud.embedded.files import open_log, write_file
from cloud.embedded.memory import Memory
from cloud.embedded.paths import TREE, Home
from cloud.embedded.processes import PROCESSES
from cloud.embedded.screen import Screen, Step
from cloud.embedded.supervision import Supervision

OWN_SERVERS = ("postgres", "valkey")


class ControlPlane:
    def __init__(self, home: Home, memory: Memory, account: Account, screen: Screen) -> None:
        self.home, self.memory, self.account, self.screen = home, memory, account, screen
        self.supervision = Supervision(home)

    def running(self) -> set[str]:
        try:
            return {process.name for process in self.supervision.ask("status") if process.pid}
        except ConnectionError:
            return set()

    def choose_ports(self, before: Memory) -> None:
        """Raises PortTaken for a port that somebody else has; chooses one for the doorbell."""
        if not self.supervision.is_up():
            self.supervision.clear_remnants()  # of a killed supervisor: they still have our ports while they end
        running = self.running()
        if "web" not in running or (before.port, before.listen) != (self.memory.port, self.memory.listen):
            ports.require_free(self.memory.port, self.memory.listen, variable="PILEUS_PORT")
        if not self.memory.redis_url and "valkey" not in running:
            self._choose_redis_port()

    def _choose_redis_port(self) -> None:
        """Keep the port that was chosen once: hosts know it. Take another only when somebody else holds on to it."""
        known = self.memory.redis_port
        if known and ports.becomes_free(known):
            return
        self.memory.redis_port = ports.next_free(ports.REDIS_PORTS)
        if known:
            by = ports.holder(known) or "another process"
            self.screen.say(
                f"  Valkey moves from port {known}, which {by} has taken, to {self.memory.redis_port}; "
                "hosts learn of it with their next heartbeat"
            )

    def start_servers(self) -> None:
        """PostgreSQL and Valkey, or whether the ones of the user's own answer."""
        memory, home = self.memory, self.home
        with self.screen.step("Database") as step:
            if not memory.database_url:
                step.note = "making it"
                postgres.prepare(home.postgres / "18", home.postgres_sockets, home.servers, self.account)
            self._start_own(step)
            url = environment.database_url(home, memory)
            step.result = f"PostgreSQL {postgres.wait_until_ready(url, create=not memory.database_url).split()[0]}"
            version = valkey.wait_until_ready(environment.redis_url(memory))
            step.result += f", {version}"
        if not version.fit_for_strangers:
            self.screen.say(
                f"  {version} has known holes: good enough for this one machine, but let no other host join"
            )

    def _start_own(self, step: Step) -> None:
        """The supervisor with today's table, and those servers of it that are ours."""
        memory = self.memory
        if not memory.redis_url:
            valkey.prepare(
                self.home.valkey,
                self.home.servers,
                self.account,
                port=memory.redis_port,
                password=memory.redis_password,
            )
        specs = environment.specs(self.home, memory, self.account)
        changed = self._changed(specs)
        self.supervision.ensure(specs)
        if stale := changed & self.running():
            step.note = f"stopping {', '.join(sorted(stale))}, whose settings changed"
            self.supervision.stop(*stale)
        self.supervision.start(*(spec["name"] for spec in specs if spec["name"] in OWN_SERVERS))
        step.note = "waiting for it"

    def _changed(self, specs: list[dict[str, Any]]) -> set[str]:
        """The processes that would be started otherwise than the supervisor has them now."""
        try:
            before = {spec["name"]: spec for spec in json.loads(self.home.processes.read_text())}
        except (FileNotFoundError, ValueError):
            return set()
        return {spec["name"] for spec in specs if before.get(spec["name"], spec) != spec}

    def manage(self, *arguments: str, stdin: str | None = None) -> str:
        """A management command, as the user of the control plane. Raises Trouble with its words when it fails."""
        env = environment.control_plane(self.home, self.memory, process="manage")
        command = [str(self.home.venv / "bin" / "python"), "-P", str(TREE / "manage.py"), *arguments]
        done = self.account.run(command, env=env, cwd=TREE, input=stdin, capture_output=True)
        with open_log(self.home.log / "manage.log") as log:
            log.write(f"$ manage.py {' '.join(arguments)}\n{done.stderr}\n".encode())
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines()
            raise Trouble(
                f"manage.py {arguments[0]} failed (log/manage.log has all of it):\n    " + "\n    ".join(words[-8:])
            )
        return str(done.stdout)

    def migrate(self) -> None:
        with self.screen.step("Schema"):
            self.manage("migrate", "--no-input")

    def collect_static(self) -> None:
        """The dashboard's files where web serves them from; those of others are fetched, and no page needs them."""
        stamp, source = (
            self.home.stamps / "static",
            environment.source_fingerprint(*environment.PROGRAM),
        )
        if (self.home.cache / "static").exists() and stamp.exists() and stamp.read_text() == source:
            return
        self.manage("collectstatic", "--no-input")
        missing = self.manage("fetch_assets").strip()
        if not missing:  # otherwise the next `up` tries again
            write_file(stamp, source)

    def start(self, names: Sequence[str], title: str = "Control plane") -> None:
        """Starts processes and waits until web says that it can work."""
        with self.screen.step(title) as step:
            self.supervision.start(*names)
            until = time.monotonic() + 60
            while True:
                step.note = self._not_ready()
                if not step.note:
                    break
                self.supervision.check(*names)
                if time.monotonic() > until:
                    raise Trouble(f"the control plane does not get ready: {step.note}; look at ./pileus logs")
                time.sleep(0.05)
            step.result = "ready"

    def _not_ready(self) -> str:
        """Why the control plane cannot work yet; empty when it can."""
        try:
            answer = httpx.get(f"{self.memory.local_url}/readyz", timeout=5, trust_env=False)
        except httpx.HTTPError:
            return "starting"
        return "" if answer.is_success else f"{answer.status_code} {answer.text[:120]}"


def names(kind: str) -> list[str]:
    """Process names by kind: `control` for the control plane, `host` for what belongs to the host."""
    return [process.name for process in PROCESSES if process.needs_root == (kind == "host")]
