"""Logs: one JSON object a line on standard error, with the request's id where there is one."""

import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import structlog
from django.db import DatabaseError


def _chain(error: Any) -> Iterator[BaseException]:
    """The exception and what it came from."""
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def without_values(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Keep only the first line of PostgreSQL's errors: their DETAIL has the whole refused row, user data included."""
    error = event.get("exc_info")
    error = sys.exc_info() if error is True else error
    error = error[1] if isinstance(error, tuple) else error
    words = ""
    for one in reversed(list(_chain(error))):  # Django's error has the words of the driver's, which caused it
        words = getattr(getattr(one, "diag", None), "message_primary", None) or words
        if words and isinstance(one, psycopg.Error | DatabaseError):
            one.args = (words,)
    return event


FOREIGN: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
PROCESSORS: list[Any] = [
    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    without_values,
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(default=str),
]


def formatter() -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(processors=PROCESSORS, foreign_pre_chain=FOREIGN)


structlog.configure(
    processors=[*FOREIGN, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
