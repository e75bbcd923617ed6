"""What is done by the clock."""

from celery import shared_task

from cloud.costs import budgets


@shared_task(name="costs.warn")
def warn() -> None:
    """Tell of budgets that are nearly spent, or more than spent."""
    budgets.warn()
