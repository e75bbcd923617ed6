"""What a control worker does when its bell rings, and by itself when no bell can."""

import threading
import time
from uuid import UUID

import structlog
from celery import bootsteps, shared_task
from django.db import close_old_connections

from cloud.operations import checks, engine

log = structlog.get_logger(__name__)

_heard = {"last_sweep": time.monotonic()}


@shared_task(name="operations.advance")
def advance(operation_id: str) -> None:
    engine.advance(UUID(operation_id))


@shared_task(name="operations.sweep")
def sweep() -> None:
    _heard["last_sweep"] = time.monotonic()
    engine.sweep()


@shared_task(name="operations.look")
def look() -> None:
    checks.look()


class BrokerlessSweep(bootsteps.StartStopStep):
    """Sweeps from a thread of its own while no beat is heard: work goes on without Redis, only a little later."""

    QUIET_SECONDS = 3

    def __init__(self, worker: object, **options: object) -> None:
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, worker: object) -> None:
        self._thread = threading.Thread(target=self._run, name="brokerless-sweep", daemon=True)
        self._thread.start()

    def stop(self, worker: object) -> None:
        self._stopped.set()

    terminate = stop

    def _run(self) -> None:
        while not self._stopped.wait(1):
            if time.monotonic() - _heard["last_sweep"] < self.QUIET_SECONDS:
                continue
            try:
                close_old_connections()
                engine.sweep()
            except Exception as error:
                log.warning("sweep.failed", error=str(error))
