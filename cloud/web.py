"""How gunicorn serves the web process, in every mode; what differs comes from the environment."""

import gc
import os
from typing import Any

bind = os.environ.get("PILEUS_BIND", "127.0.0.1:8080")
worker_class = "gthread"
workers = int(os.environ.get("PILEUS_WEB_WORKERS", "2"))
threads = int(os.environ.get("PILEUS_WEB_THREADS", "16"))
preload_app = True  # the workers share the code's memory
keepalive = 30
timeout = 60
graceful_timeout = 15
control_socket_disable = True
proc_name = "pileus-web"


def when_ready(server: Any) -> None:
    """Nothing loaded so far is garbage: left alone by the collector, its pages stay shared."""
    gc.collect()
    gc.freeze()
