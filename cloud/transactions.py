"""One mutation, one transaction: run again when it lost against another one, rolled back when it is dry."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import connection, transaction
from django.db.utils import DatabaseError

ATTEMPTS = 4
CONFLICTING = {"40001", "40P01"}  # serialization failure, deadlock: the same transaction may succeed if run again
T = TypeVar("T")


def run(work: Callable[[], T], *, dry: bool = False) -> T:
    """Run the work in a transaction of its own; a dry one checks what commit would check, and leaves nothing."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic(durable=True):
                if dry:
                    _execute("SET LOCAL lock_timeout = '1s'")
                result = work()
                if dry:
                    _execute("SET CONSTRAINTS ALL IMMEDIATE")
                    transaction.set_rollback(True)
                return result
        except DatabaseError as error:
            if attempt == ATTEMPTS or not is_conflicting(error):
                raise
            time.sleep(random.uniform(0.005, 0.05) * attempt)  # noqa: S311
    raise AssertionError("unreachable")


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def is_conflicting(error: DatabaseError) -> bool:
    """Whether the transaction lost against another one and may be run again as it was."""
    return getattr(error.__cause__, "sqlstate", None) in CONFLICTING
