"""How long a web process waits for the database. Statements' time-outs are the server's: one that hangs keeps none."""

from collections.abc import Generator
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from psycopg.pq import TransactionStatus

SECONDS = 8.0  # longer than any statement may take on a server that runs
INTERVAL = 0.1  # for signals, as psycopg has it


def be_impatient() -> None:
    """From here on every new connection of this process is given up when it does not answer: an OperationalError."""
    connection_created.connect(_bound, dispatch_uid=__name__)


def _bound(connection: BaseDatabaseWrapper, **_: Any) -> None:
    established: Any = connection.connection
    wait = established.wait

    def bounded(waiting: Generator[Any, Any, Any], interval: float = INTERVAL, timeout: float | None = None) -> Any:
        try:
            return wait(waiting, interval, SECONDS if timeout is None else timeout)
        except psycopg.OperationalError:
            if established.pgconn.transaction_status == TransactionStatus.ACTIVE:
                established.close()  # its answer may still come, and would be taken for another's
            raise

    established.wait = bounded
