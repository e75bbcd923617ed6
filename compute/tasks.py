"""What is done for instances by the clock."""

from celery import shared_task

from compute import samples


@shared_task(name="compute.pack_samples")
def pack_samples() -> None:
    samples.pack()
