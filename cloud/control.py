"""The control worker, `python -m cloud.control`: Celery's worker without Celery's command line, whose consoles for
other brokers take 7 MiB.
"""

import os
import sys
from typing import Any

from cloud.celery import app

# Celery would have Django check all URLs and pages, which `./pileus check` does; loading them takes 12 MiB.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")


def worker() -> Any:
    """One that has not begun yet."""
    return app.Worker(
        queues=["control"],
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_heartbeat=True,
        without_mingle=True,
    )


if __name__ == "__main__":
    control = worker()
    control.start()
    sys.exit(control.exitcode)
