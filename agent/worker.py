"""The host worker: Celery's doorbell on one side, the host's own clock on the other.

A bell says only "look". The clock (`rounds.py`) looks by itself too, so a host whose Redis is away works on: what
Celery does or fails to do never stops the host, and nothing that matters is in a message.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.apps.worker import Worker
from celery.worker import state

from agent import jail, kinds
from agent.control_plane import ControlPlane
from agent.host import Host
from agent.ledger import Ledger
from agent.membership import Membership
from agent.paths import Paths
from agent.rounds import Inspections, Rounds

log = structlog.get_logger()

MAX_SECONDS_TO_FINISH = 5.0
SECONDS_BETWEEN_STARTS = 10.0  # of Celery


class HostWorker:
    """All threads of a host."""

    def __init__(self, paths: Paths, membership: Membership) -> None:
        paths.make()
        self.ledger = Ledger(paths.ledger)
        self.control_plane = ControlPlane(membership.url, membership.token)
        tools = kinds.Tools(paths, self.ledger, self.control_plane, jail.probe(paths))
        kinds.register(tools)
        self.host = Host(tools, spawn=_in_thread)
        self._rounds = Rounds(self.host, membership.heartbeat_seconds)
        self._inspections = Inspections(self.host)
        self._started = False

    def start(self) -> None:
        """Begin to work; a second time changes nothing."""
        if self._started:
            return
        self._started = True
        self.host.quarantine_strangers()
        for kind in self.host.kinds.values():
            kind.start(self.host)
        self._rounds.start()
        self._inspections.start()

    def ring(self) -> None:
        self._rounds.ring()

    def stop(self) -> None:
        """Leave resources alone and work in hand where it is: the next worker goes on with both."""
        self.host.stop()
        self.host.wake()
        deadline = time.monotonic() + MAX_SECONDS_TO_FINISH
        while not self.host.is_idle() and time.monotonic() < deadline:
            time.sleep(0.05)


def celery_app(membership: Membership, worker: HostWorker) -> Celery:
    """The Celery app of one host: one task that carries nothing, on this host's own queue and keys."""
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
        """Starts the host's threads with Celery's worker, before it looks for its broker."""

        def start(self, parent: Any) -> None:
            worker.start()

        def stop(self, parent: Any) -> None:
            """They outlive a Celery that fails; `run` ends it."""

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
                concurrency=1,  # a bell takes no time: the host has threads of its own
                loglevel="WARNING",
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                quiet=True,
            )
            _run_celery(celery)
            if not _is_told_to_stop():
                log.warning("Celery ended; the host works on without bells", again_in=SECONDS_BETWEEN_STARTS)
                _pause(SECONDS_BETWEEN_STARTS)
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


def _in_thread(task: Callable[[], None]) -> None:
    threading.Thread(target=task, name="work", daemon=True).start()
