"""The doorbell: Celery's consumer of this host's queue, at the address that the broker has now.

A bell says only "look" and carries nothing. The broker may move: the answer to each heartbeat says where it is, and the
consumer follows. A host that hears no bells works all the same, slowly, and says so in its heartbeats.
"""

import time
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.apps.worker import Worker
from celery.worker import state

from agent.kinds import Problem
from agent.membership import Membership
from agent.paths import Paths

log = structlog.get_logger()

SECONDS_BETWEEN_STARTS = 10.0
SECONDS_UNTIL_TOLD = 15.0  # without bells: Celery reconnects in less than that
MOVED = -1  # in Celery's `should_stop`, where its signal handlers write the exit status 0


class Bells:
    """`ring` is called at each bell, `start` with Celery's worker, before it looks for its broker."""

    def __init__(
        self, paths: Paths, membership: Membership, *, ring: Callable[[], None], start: Callable[[], None]
    ) -> None:
        self._path = paths.membership
        self._membership = membership
        self._ring = ring
        self._start = start
        self._deaf_since: float | None = time.monotonic()

    def run(self) -> None:
        """Hear bells until told to stop by SIGTERM, SIGINT or SIGQUIT."""
        while not _is_told_to_stop():
            if state.should_stop == MOVED:
                state.should_stop = None
            self._run_celery()
            if not _is_told_to_stop() and state.should_stop != MOVED:
                log.warning("Celery ended; the host works on without bells", again_in=SECONDS_BETWEEN_STARTS)
                _pause(SECONDS_BETWEEN_STARTS)

    def follow(self, broker: str) -> None:
        """The broker is at this URL, which is without credentials: keep it, and listen there."""
        present = Membership.read(self._path)
        try:
            moved = present.at_broker(broker)
        except ValueError as problem:
            log.warning("the control plane names no broker", broker=broker, problem=str(problem))
            return
        if moved != present:
            moved.write(self._path)
        if moved.redis_url != self._membership.redis_url:
            log.info("the broker has moved", broker=moved.broker)
            self._membership = moved
            if state.should_stop is None:
                state.should_stop = MOVED  # which Celery's loops look for, also when they wait for the old broker

    def problems(self) -> list[Problem]:
        """For the heartbeat: whether bells have not been heard for a while."""
        since = self._deaf_since
        if since is None or time.monotonic() - since < SECONDS_UNTIL_TOLD:
            return []
        return [{"what": "bells", "problem": f"not connected to the broker at {self._membership.broker}"}]

    def set_listening(self, is_listening: bool) -> None:
        """Told by Celery's consumer."""
        self._deaf_since = None if is_listening else self._deaf_since or time.monotonic()

    def _run_celery(self) -> None:
        try:
            app = celery_app(self._membership, self, ring=self._ring, start=self._start)
            worker: Worker = app.Worker(
                hostname=f"host@{self._membership.name}",
                queues=[self._membership.queue],
                concurrency=1,  # a bell takes no time: the host has threads of its own
                loglevel="WARNING",
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                quiet=True,
            )
            worker.start()
        except Exception:
            log.exception("Celery failed")
        finally:
            self.set_listening(False)


def celery_app(membership: Membership, bells: Bells, *, ring: Callable[[], None], start: Callable[[], None]) -> Celery:
    """The Celery app of one host: one task that carries nothing, on this host's own queue and keys."""
    app = Celery("host", broker=membership.redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        broker_transport="agent.listening:Transport",
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

    @app.task(name="host.look")  # type: ignore[untyped-decorator]
    def look() -> None:
        ring()

    class Threads(bootsteps.StartStopStep):  # type: ignore[misc]
        """Starts the host's threads with Celery's worker, before it looks for its broker. They outlive it."""

        def start(self, parent: Any) -> None:
            start()

        def stop(self, parent: Any) -> None:
            """The host's worker ends them."""

    class Listening(bootsteps.StartStopStep):  # type: ignore[misc]
        """Knows whether the consumer is connected: it is the last step after the connection and its tasks."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            bells.set_listening(True)

        def stop(self, parent: Any) -> None:
            bells.set_listening(False)

    app.steps["worker"].add(Threads)
    app.steps["consumer"].add(Listening)
    return app


def _is_told_to_stop() -> bool:
    """Whether Celery's signal handlers, which stay when it ends, were called."""
    return state.should_stop not in (None, MOVED) or state.should_terminate is not None


def _pause(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not _is_told_to_stop() and state.should_stop != MOVED:
        time.sleep(0.2)
