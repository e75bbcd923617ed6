"""Work by the clock (Celery's beat) that fails is said on the health page: nobody asked for it, nobody would hear."""

from typing import Any

import structlog
from celery import signals
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models.functions import Now

from cloud.operations.models import FailingTask

log = structlog.get_logger(__name__)
BY_THE_CLOCK = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}
MAX_WORDS = 500  # characters


def connect() -> None:
    """Have Celery tell of each run."""
    signals.task_failure.connect(note_failure)
    signals.task_success.connect(forget_failure)


def note_failure(*, sender: Any, exception: Exception, **facts: Any) -> None:
    """The first failure's time is kept until it succeeds."""
    if sender.name in BY_THE_CLOCK:
        words = f"{type(exception).__name__}: {exception}"[:MAX_WORDS]
        _write(lambda: FailingTask.objects.update_or_create(name=sender.name, defaults={"problem": words, "at": Now()}))


def forget_failure(*, sender: Any, **facts: Any) -> None:
    if sender.name in BY_THE_CLOCK:
        _write(FailingTask.objects.filter(name=sender.name).delete)


def _write(change: Any) -> None:
    try:
        with transaction.atomic():
            change()
    except DatabaseError as error:  # which /readyz says; the next run notes it
        log.warning("clock.not_noted", error=str(error))
