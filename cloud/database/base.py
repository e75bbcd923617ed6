"""What Django does for each request and each moment of time, made cheaper.

**A connection that has just answered is not asked whether it still works.** Django asks each kept connection `SELECT 1`
before a request or a task first uses it: a round trip, which was a sixth of the time of a look at one instance. A
server that ends, restarts or drops a client closes the socket, and that is seen without asking. So a connection is
asked only if it has been silent for a while, or if something waits to be read. What may then break unseen within that
while, a network that swallows everything, would let the question hang as well.

**Moments are read by Python's own reader**, which is C. Psycopg's for time zones is Python, and Django's begins with
it. A list of fifty instances has a hundred.
"""

import select
import time
from datetime import UTC, datetime
from typing import Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import BaseTzLoader

TRUSTED_SECONDS = 5.0  # after an answer


class Moment(BaseTzLoader):  # type: ignore[misc]
    """Reads `2026-12-01 04:51:32.12+00`. What is written otherwise, such as another zone, is Django's to read."""

    timezone = UTC

    def load(self, data: Any) -> datetime:
        try:
            known = datetime.fromisoformat(str(data, "ascii"))
        except ValueError:
            known = None
        return known if known and known.tzinfo is UTC else super().load(data)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django looks for a class of this name in ENGINE.base."""

    health_check_done: bool
    _answered_at = float("-inf")

    def get_new_connection(self, parameters: Any) -> Any:
        made = super().get_new_connection(parameters)
        if self.timezone == UTC:
            made.adapters.register_loader("timestamptz", Moment)
        return made

    def close_if_unusable_or_obsolete(self) -> None:
        """At the begin and the end of each request and task."""
        has_answered = self.connection is not None and self.health_check_done and not self.errors_occurred
        super().close_if_unusable_or_obsolete()
        if has_answered:
            self._answered_at = time.monotonic()

    def close_if_health_check_failed(self) -> None:
        """Before the first use in a request or a task, and for nothing before all others."""
        if not self.health_check_done and self.connection is not None and self._is_well(self.connection):
            self.health_check_done = True
            return
        super().close_if_health_check_failed()

    def _is_well(self, established: Any) -> bool:
        """Whether it answered a moment ago, and is neither closed nor has anything to say (such as why it ends)."""
        if established.closed or time.monotonic() - self._answered_at > TRUSTED_SECONDS:
            return False
        poll = select.poll()
        poll.register(established.fileno(), select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0)
