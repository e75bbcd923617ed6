"""The beat process, `python -m cloud.beat`. Beat names the tasks of its schedule and runs none, so it loads neither
them nor Django's models, nor Celery's command line: two thirds of the memory that it would take.
"""

import logging
from logging.config import dictConfig
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader
from celery.signals import setup_logging
from django.conf import settings


class NoTasks(AppLoader):  # type: ignore[misc]
    def import_default_modules(self) -> list[Any]:
        return []


app = Celery("beat", loader=NoTasks, fixups=[], set_as_current=False)
app.config_from_object("django.conf:settings", namespace="CELERY")


@setup_logging.connect
def log_as_django_would(loglevel: int, **facts: Any) -> None:
    dictConfig(settings.LOGGING)
    logging.getLogger().setLevel(loglevel)


if __name__ == "__main__":
    # The schedule is a few periods in the settings: nothing of it has to outlive the process, so no file keeps it.
    app.Beat(scheduler="cloud.operations.beat:Bells", quiet=True).run()
