"""The control plane's Celery app: a doorbell for operations, never the holder of work."""

import os
from typing import Any

from celery import Celery
from celery.signals import task_prerun

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cloud.settings")
app = Celery("cloud")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@task_prerun.connect
def drop_broken_connections(**facts: Any) -> None:
    """Connections to the database live on from task to task (Celery would close them), as long as they are whole."""
    from django.db import close_old_connections

    close_old_connections()
