"""The host worker: Celery's doorbell on one side, the node's own clock on the other.

A bell says only "look". The clock (`rounds.py`) looks by itself too, so a host whose Redis is away works on: what
Celery does or fails to do never stops the node, and nothing that matters is in a message.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.apps.worker import Worker
from celery.worker import state

from agent import jail
from agent.control_plane import ControlPlane
from agent.host import Node
from agent.ledger import Ledger
from agent.membership import Membership
from agent.paths import Paths
from agent.rounds import Inspections, Rounds, Sampling
from compute.agent.console_log import ConsoleLogs
from compute.agent.hypervisors import installed
from compute.agent.samples import Samples
from compute.agent.watch import Watch

log = structlog.get_logger()

SECONDS_BETWEEN_LOGS = 0.5
SECONDS_TO_FINISH = 5.0
SECONDS_BETWEEN_CELERIES = 10.0


class HostWorker:
    """All threads of a node."""

    def __init__(self, paths: Paths, membership: Membership) -> None:
        paths.make()
        confinement = jail.probe(paths)
        self.ledger = Ledger(paths.ledger)
        self.control_plane = ControlPlane(membership.url, membership.token)
        self.node = Node(
            paths,
            self.ledger,
            self.control_plane,
            installed(paths, confinement),
            confinement=confinement,
            spawn=_in_thread,
        )
        self._watch = Watch(self.node)
        self._rounds = Rounds(self.node, membership.heartbeat_seconds, self._watch.wake)
        self._inspections = Inspections(self.node)
        self._sampling = Sampling(self.node, Samples(self.node, self.control_plane))
        self._logs = ConsoleLogs(paths, self.ledger, self.control_plane)
        self._started = False

    def start(self) -> None:
        """Begin to work; a second time changes nothing."""
        if self._started:
            return
        self._started = True
        self.node.quarantine_strangers()
        self._watch.start()
        self._rounds.start()
        self._inspections.start()
        self._sampling.start()
        _in_thread(self._push_logs, "console-logs")
        _in_thread(self._probe_accelerators, "accelerators")

    def ring(self) -> None:
        self._rounds.ring()

    def stop(self) -> None:
        """Leave machines alone and work in hand where it is: the next worker goes on with both."""
        self.node.stop()
        self._watch.stop()
        deadline = time.monotonic() + SECONDS_TO_FINISH
        while not self.node.is_idle() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _push_logs(self) -> None:
        while not self.node.stopping.wait(SECONDS_BETWEEN_LOGS):
            try:
                self._logs.push_changed()
            except Exception:
                log.exception("console logs were not pushed")

    def _probe_accelerators(self) -> None:
        """Once the first machine is up: a probe may take seconds, and nobody's first machine waits for it."""
        while not any(entry.seen == "running" for entry in self.ledger.entries()):
            if self.node.stopping.wait(1.0):
                return
        if any([hypervisor.probe_accelerators() for hypervisor in self.node.hypervisors.values()]):
            self.node.changed.set()


def celery_app(membership: Membership, worker: HostWorker) -> Celery:
    """The Celery app of one node: one task that carries nothing, on this host's own queue and keys."""
    app = Celery("host", broker=membership.redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        broker_transport_options={
            "global_keyprefix": membership.key_prefix,
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_acks_late=False,
        task_default_queue=membership.queue,
        task_ignore_result=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_pool="threads",
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
    )

    @app.task(name="host.look")
    def look() -> None:
        worker.ring()

    class Clock(bootsteps.StartStopStep):  # type: ignore[misc]
        """Starts the node with Celery's worker, before it looks for its broker."""

        def start(self, parent: Any) -> None:
            worker.start()

        def stop(self, parent: Any) -> None:
            """The node outlives a Celery that fails; `run` ends it."""

    app.steps["worker"].add(Clock)
    return app


def run(paths: Paths, membership: Membership) -> int:
    """Work until told to stop by SIGTERM, SIGINT or SIGQUIT; the exit status."""
    worker = HostWorker(paths, membership)
    app = celery_app(membership, worker)
    try:
        while not _is_told_to_stop():
            celery = app.Worker(
                hostname=f"host@{membership.name}",
                queues=[membership.queue],
                concurrency=1,  # a bell takes no time: the node has threads of its own
                loglevel="WARNING",
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                quiet=True,
            )
            _run_celery(celery)
            if not _is_told_to_stop():
                log.warning("Celery ended; the node works on without bells", again_in=SECONDS_BETWEEN_CELERIES)
                _pause(SECONDS_BETWEEN_CELERIES)
    finally:
        worker.stop()
        worker.ledger.close()
        worker.control_plane.close()
    return 0


def _is_told_to_stop() -> bool:
    """Whether Celery's signal handlers, which stay when it ends, were called."""
    return state.should_stop is not None or state.should_terminate is not None


def _pause(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not _is_told_to_stop():
        time.sleep(0.2)


def _run_celery(celery: Worker) -> None:
    try:
        celery.start()
    except Exception:
        log.exception("Celery failed")


def _in_thread(task: Callable[[], None], name: str = "work") -> None:
    threading.Thread(target=task, name=name, daemon=True).start()
