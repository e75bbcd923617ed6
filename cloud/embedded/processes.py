"""The processes of the cloud and their commands: one table, which `up` runs and docker-compose.yml repeats.

`$NAME` in a command is a variable of the process's environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

# What each kind of process is told by its environment; the names are the same in every mode.
CONTROL_VARIABLES = frozenset(
    {
        "DATABASE_URL",
        "REDIS_URL",
        "PILEUS_ALLOWED_HOSTS",
        "PILEUS_ALLOW_EMULATION",
        "PILEUS_BACKUP_KEY",
        "PILEUS_BACKUP_STORE",
        "PILEUS_BIND",
        "PILEUS_DATABASE_PASSWORD",
        "PILEUS_DATABASE_ROLE",
        "PILEUS_DATABASE_ROLE_PASSWORD",
        "PILEUS_EMBEDDED",
        "PILEUS_HOST_REDIS_URL",
        "PILEUS_IMAGE_STORE",
        "PILEUS_IMAGE_UPLOADS",
        "PILEUS_PROCESS",
        "PILEUS_REDIS_PASSWORD",
        "PILEUS_S3_ACCESS_KEY",
        "PILEUS_S3_ENDPOINT",
        "PILEUS_S3_PATH_STYLE",
        "PILEUS_S3_REGION",
        "PILEUS_S3_SECRET_KEY",
        "PILEUS_SECRET_KEY",
        "PILEUS_STATIC_ROOT",
        "PILEUS_STREAMS_SOCKET",
        "PILEUS_TRUSTED_PROXIES",
        "PILEUS_URL",
    }
)
# A host knows no database, no key and no login but its own.
HOST_VARIABLES = frozenset({"PILEUS_AGENT_FIRST_UID", "PILEUS_AGENT_HOME", "PILEUS_EMBEDDED", "PILEUS_RUNTIME_DIR"})


@dataclass(frozen=True)
class Process:
    name: str
    command: tuple[str, ...]
    variables: frozenset[str] = CONTROL_VARIABLES
    needs_root: bool = False  # where there is root to be had; otherwise it does what an ordinary user may
    stop_signal: str = "SIGTERM"
    stop_seconds: int = 25

    def argv(self, environment: Mapping[str, str]) -> list[str]:
        return [Template(word).substitute(environment) for word in self.command]


WEB = Process("web", ("gunicorn", "--config", "python:cloud.web", "cloud.wsgi:application"))
STREAMS = Process("streams", ("python", "-m", "cloud.streams"))
CONTROL = Process("control", ("python", "-m", "cloud.control"))
BEAT = Process("beat", ("python", "-m", "cloud.beat"))
HOST = Process("host", ("pileus-agent", "worker"), variables=HOST_VARIABLES, needs_root=True)
NETWORK = Process("network", ("pileus-agent", "network"), variables=HOST_VARIABLES, needs_root=True, stop_seconds=5)
NODE = Process("node", ("pileus-agent", "node"), variables=HOST_VARIABLES, needs_root=True, stop_seconds=5)

CONTROL_PLANE = (WEB, STREAMS, CONTROL, BEAT)
OF_A_HOST = (NETWORK, HOST, NODE)
PROCESSES = (*CONTROL_PLANE, *OF_A_HOST)
