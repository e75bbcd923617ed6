"""What is tidied up by the clock."""

from celery import shared_task

from cloud import retention, trash


@shared_task(name="api.tidy")
def tidy() -> None:
    retention.sweep()


@shared_task(name="api.empty_trash")
def empty_trash() -> None:
    trash.empty()
