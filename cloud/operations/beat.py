"""Celery's beat rings bells: however long no worker takes them, no more of them wait than anybody needs."""

from typing import Any

from celery.beat import ScheduleEntry, Scheduler

from cloud.operations import bells

MAX_WAITING = 100


class Bells(Scheduler):
    """For tasks of control workers that take nothing."""

    producer = None  # bells have their own connection, and do not wait for it

    def apply_async(self, entry: ScheduleEntry, producer: None = None, advance: bool = True, **options: Any) -> None:
        if advance:
            entry = self.reserve(entry)
        bells.push("control", entry.task, longest=MAX_WAITING)
