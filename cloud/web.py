"""How gunicorn serves the web process, in every mode; what differs comes from the environment."""

import gc
import os
import shutil
import tempfile
from typing import Any

# Where all workers count together; it has to be known before anything counts.
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="pileus-metrics-")

bind = os.environ.get("PILEUS_BIND", "127.0.0.1:8080")
worker_class = "cloud.web_worker.Worker"
workers = int(os.environ.get("PILEUS_WEB_WORKERS", "2"))
threads = int(os.environ.get("PILEUS_WEB_THREADS", "16"))
preload_app = True  # the workers share the code's memory
worker_connections = 1000
keepalive = 30
limit_request_line = 8190
limit_request_fields = 64
timeout = 60
graceful_timeout = 15
control_socket_disable = True
proc_name = "pileus-web"


def child_exit(server: Any, worker: Any) -> None:
    """What a worker has counted stays counted; what it alone measured goes with it."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


def on_exit(server: Any) -> None:
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)


def when_ready(server: Any) -> None:
    """Nothing loaded so far is garbage: left alone by the collector, its pages stay shared."""
    gc.collect()
    gc.freeze()
