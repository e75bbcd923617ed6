"""What each process is told, and the supervisor's table made of it."""

import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Any

from cloud.embedded import postgres, valkey
from cloud.embedded.accounts import Account
from cloud.embedded.memory import Memory
from cloud.embedded.paths import TREE, Home
from cloud.embedded.processes import PROCESSES, Process

MANAGE = "manage"  # the process of manage.py: migrations, and what an operator does by hand

# How the world outside is reached, and what tests set: these go through to every process as they are.
PASSED_ON = re.compile(
    r"(https?|ftp|all|no)_proxy|npm_config_registry|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|TZ"
    r"|PILEUS_(FAULT\w*|AGENT_FIRST_UID)",
    re.IGNORECASE,
)


# What the control plane was told once, it is told again until somebody says otherwise.
REMEMBERED = re.compile(
    r"PILEUS_(WEB_\w+|API_\w+|OIDC_\w+|PLACEMENT|CURRENCY|VCPU_OVERCOMMIT|ALLOW_EMULATION|ALLOWED_HOSTS"
    r"|TRUSTED_PROXIES|TRASH_HOURS|DRILL_DAYS|DEFAULT_NETWORKS|KEEP_\w+|NETWORK_MTU|POOLS|S3_\w+)"
)
STORES = {"PILEUS_BACKUP_STORE", "PILEUS_IMAGE_STORE"}  # remembered where they are buckets: `up` has folders of its own
OF_HOSTS = {"PILEUS_POOLS"}  # of these, what the host's processes are told


def remembered() -> dict[str, str]:
    """What this environment says for the control plane; an empty value takes back what was said before."""
    said = {name: value for name, value in os.environ.items() if REMEMBERED.fullmatch(name)}
    buckets = {name: os.environ[name] for name in STORES & set(os.environ)}
    return said | {name: value for name, value in buckets.items() if not value or value.startswith("s3://")}


def database_url(home: Home, memory: Memory, role: str = postgres.OWNER) -> str:
    return memory.database_url or postgres.database_url(home.postgres_sockets, role)


def redis_url(memory: Memory) -> str:
    return memory.redis_url or valkey.redis_url(memory.redis_port, memory.redis_password)


def common(home: Home) -> dict[str, str]:
    passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    path = f"{home.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return passed_on | {
        "PATH": path,
        "HOME": str(home.cache),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",  # an arena per thread would cost more memory than it saves time
        "PILEUS_EMBEDDED": "1",
    }


def control_plane(home: Home, memory: Memory, *, process: str) -> dict[str, str]:
    """The environment of what holds the database: web, streams, control, beat, and manage.py."""
    address = f"[{memory.listen}]" if ":" in memory.listen else memory.listen
    names = {memory.settings.get("PILEUS_ALLOWED_HOSTS", ""), memory.listen, socket.gethostname()} - {""}
    role = postgres.OWNER if process == MANAGE else postgres.APP
    variables = {
        "DATABASE_URL": database_url(home, memory, role),
        "REDIS_URL": redis_url(memory),
        "PILEUS_ALLOWED_HOSTS": ",".join(sorted(names)),
        "PILEUS_BACKUP_STORE": memory.settings.get("PILEUS_BACKUP_STORE", str(home.backup_store)),
        "PILEUS_BIND": f"{address}:{memory.port}",
        "PILEUS_IMAGE_STORE": memory.settings.get("PILEUS_IMAGE_STORE", str(home.image_store)),
        "PILEUS_IMAGE_UPLOADS": str(home.image_store / "uploads"),
        "PILEUS_PROCESS": f"pileus-{process}",
        "PILEUS_SECRET_KEY": memory.secret_key,
        "PILEUS_STATIC_ROOT": str(home.cache / "static"),
        "PILEUS_STREAMS_SOCKET": str(home.streams_socket),
        "PILEUS_URL": memory.public_url,
    }
    if process == MANAGE and not memory.database_url:
        variables["PILEUS_DATABASE_ROLE"] = postgres.APP
    if memory.host_redis_url:
        variables["PILEUS_HOST_REDIS_URL"] = memory.host_redis_url
    return common(home) | memory.settings | variables


def host(home: Home, memory: Memory) -> dict[str, str]:
    """The environment of what may be root: nothing in it, HOME neither, names a folder of the control plane's user."""
    own = {
        "HOME": str(home.agent),
        "PILEUS_AGENT_HOME": str(home.agent),
        "PILEUS_RUNTIME_DIR": str(home.agent_sockets),
    }
    told = {name: value for name, value in memory.settings.items() if name in OF_HOSTS}
    return {"PILEUS_AGENT_FIRST_UID": str(memory.first_uid)} | common(home) | told | own


def _spec(
    name: str, argv: list[str], env: dict[str, str], account: Account | None, cwd: str, **more: Any
) -> dict[str, Any]:
    owner = (account.owner if account else None) or (None, None)
    return {"name": name, "argv": argv, "env": env, "cwd": cwd, "uid": owner[0], "gid": owner[1]} | more


def server_specs(home: Home, memory: Memory, account: Account) -> list[dict[str, Any]]:
    """The database and the doorbell, as far as they are ours."""
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    specs = []
    if not memory.database_url:
        argv = postgres.server_command(home.postgres / "18", home.postgres_sockets, home.servers)
        # SIGINT is PostgreSQL's fast shutdown: it breaks off connections, and ends cleanly.
        more = {
            "stop_signal": "SIGINT",
            "stop_seconds": 60,
            "source": _digest(home.servers, "postgresql.conf", "pg_ident.conf"),
        }
        specs.append(_spec("postgres", argv, env, account, "/", **more))
    if not memory.redis_url:
        argv = valkey.server_command(home.servers)
        more = {"stop_signal": "SIGTERM", "stop_seconds": 15, "source": _digest(home.servers, "valkey.conf")}
        specs.append(_spec("valkey", argv, env, account, "/", **more))
    return specs


def _digest(folder: Path, *configuration: str) -> str:
    """Of a configuration: a server whose own has changed is started again."""
    try:
        return hashlib.sha256(b"\0".join((folder / name).read_bytes() for name in configuration)).hexdigest()
    except FileNotFoundError:
        return ""


PROGRAM = ("cloud", "compute", "storage", "network")


def source_fingerprint(*packages: str) -> str:
    """Differs when a file of these packages has changed: then what was made of them is made again."""
    digest = hashlib.sha256((TREE / "requirements.lock").read_bytes())
    for package in packages:
        for file in sorted((TREE / package).rglob("*")):
            if "__pycache__" not in file.parts and file.is_file():
                found = file.stat()
                digest.update(f"{file}|{found.st_mtime_ns}|{found.st_size}\n".encode())
    return digest.hexdigest()


def process_spec(process: Process, home: Home, memory: Memory, account: Account, *, source: str) -> dict[str, Any]:
    env = host(home, memory) if process.needs_root else control_plane(home, memory, process=process.name)
    argv = process.argv(env)
    argv[0] = str(home.venv / "bin" / argv[0])
    who = None if process.needs_root else account
    stop = {"stop_signal": process.stop_signal, "stop_seconds": process.stop_seconds}
    return _spec(process.name, argv, env, who, str(TREE), source=source, **stop)


def specs(home: Home, memory: Memory, account: Account) -> list[dict[str, Any]]:
    """The supervisor's table, in the order of starting; stopping goes the other way."""
    source = source_fingerprint(*PROGRAM)
    ours = [process_spec(process, home, memory, account, source=source) for process in PROCESSES]
    return server_specs(home, memory, account) + ours
