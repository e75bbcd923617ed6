"""Celery's line to Redis, which a message that nobody can read does not end: it is passed over, and logged.

Work is in the database, and a message is only a bell: the next sweep finds what a lost one was for.
"""

from typing import Any

import structlog
from kombu.transport import redis

log = structlog.get_logger(__name__)

UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)  # no JSON, or not what kombu puts into it


class Channel(redis.Channel):
    """Reads messages one after the other."""

    def _brpop_read(self, **options: Any) -> Any:
        """The message has left Redis before anything looks into it, so it is not read again."""
        try:
            return super()._brpop_read(**options)
        except UNREADABLE as problem:
            log.warning("broker.unreadable_message", problem=f"{type(problem).__name__}: {problem}"[:200])
            return True


class Transport(redis.Transport):
    """`CELERY_BROKER_TRANSPORT` names it."""

    Channel = Channel
