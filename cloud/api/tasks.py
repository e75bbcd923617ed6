"""What is tidied up by the clock."""

from celery import shared_task

from cloud import retention


@shared_task(name="api.tidy")
def tidy() -> None:
    retention.sweep()
