"""PostgreSQL and Valkey from the wheels, as the embedded mode runs them."""

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
import redis

from cloud.embedded import postgres, valkey
from cloud.embedded.accounts import SYSTEM_USER, service_account
from cloud.embedded.files import make_folder
from cloud.embedded.testing import own_servers
from cloud.server_addresses import without_credentials


@pytest.fixture(scope="module")
def servers():
    with own_servers() as servers:
        yield servers


@pytest.fixture
def reachable():
    """A folder that other users get to, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        yield make_folder(Path(folder))


def test_postgres_is_18_and_speaks_utf_8_in_an_order_no_system_upgrade_changes(servers):
    with psycopg.connect(servers["DATABASE_URL"]) as connection:
        assert connection.info.server_version // 10_000 == 18
        row = connection.execute(
            "SELECT pg_encoding_to_char(encoding), datlocprovider, datlocale FROM pg_database WHERE datname = 'pileus'"
        ).fetchone()
    assert row == ("UTF8", "b", "C.UTF-8")


def test_postgres_logs_no_values_of_statements(servers):
    log = Path(servers["PILEUS_HOME"]).parent / "postgres.log"
    with psycopg.connect(servers["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (name text UNIQUE CHECK (name <> 'no'))")
        for statement in ("INSERT INTO kept VALUES (%s), (%s)", "SELECT %s::json || %s", "SELECT nothing(%s, %s)"):
            for cursor in (connection.cursor(), psycopg.ClientCursor(connection)):
                with pytest.raises(psycopg.Error):
                    cursor.execute(statement, ["MARK-of-a-secret"] * 2)
    told = log.read_text()
    assert "duplicate key value" in told
    assert "MARK" not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_stranger_gets_to_no_socket_of_postgres(servers):
    folder = dict(pair.split("=") for pair in servers["DATABASE_URL"].partition("?")[2].split("&"))["host"]
    for name in (folder, f"{folder}/.s.PGSQL.5432"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o700


def test_postgres_listens_on_no_network(servers):
    with psycopg.connect(servers["DATABASE_URL"]) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_postgres_lets_no_other_user_in_and_runs_without_root(servers):
    psql = str(postgres.binaries() / "psql")
    as_nobody = subprocess.run(
        [psql, servers["DATABASE_URL"], "-c", "SELECT 1"], user="nobody", capture_output=True, text=True, check=False
    )
    assert as_nobody.returncode != 0
    assert "Permission denied" in as_nobody.stderr
    with psycopg.connect(servers["DATABASE_URL"]) as connection:
        [folder] = connection.execute("SHOW data_directory").fetchone()
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    owner = subprocess.run(["stat", "-c", "%U", folder], capture_output=True, text=True, check=True).stdout.strip()
    assert owner == SYSTEM_USER


def test_valkey_knows_control_and_nobody_without_a_password(servers):
    with redis.Redis.from_url(servers["REDIS_URL"]) as control:
        assert control.acl_whoami() == valkey.CONTROL
        assert control.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    anybody = redis.Redis.from_url(without_credentials(servers["REDIS_URL"]))
    with anybody, pytest.raises(redis.AuthenticationError):
        anybody.ping()


def test_valkey_is_new_enough_for_hosts_to_log_in(servers):
    version = valkey.wait_until_ready(servers["REDIS_URL"])
    assert version.name == "valkey"
    assert version.fit_for_strangers


@pytest.mark.parametrize(
    ("name", "number", "fit"), [("redis", "6.2.5", False), ("redis", "7.4.6", True), ("valkey", "8.1.3", False)]
)
def test_old_servers_are_not_for_strangers(name, number, fit):
    assert valkey.Version(name, number).fit_for_strangers is fit


def test_the_password_of_control_is_in_the_configuration_only_as_a_hash(tmp_path):
    text = valkey.configuration(folder=tmp_path, port=6480, password="of-control")
    assert "of-control" not in text
    assert "user default off" in text


def test_nothing_is_left_of_throwaway_servers():
    with own_servers() as servers, psycopg.connect(servers["DATABASE_URL"]) as connection:
        [folder] = connection.execute("SHOW data_directory").fetchone()
        pid = connection.info.backend_pid
    assert not os.path.exists(folder)
    assert not os.path.exists(f"/proc/{pid}")


def test_an_interrupted_initdb_never_looks_like_a_database(reachable):
    account = service_account()
    make_folder(reachable / "postgres", mode=0o700, owner=account.owner)
    make_folder(reachable / "c")
    half_made = make_folder(reachable / "postgres" / "18.new", owner=account.owner)
    (half_made / "PG_VERSION").write_text("18\n")
    places = reachable / "postgres" / "18", reachable / "s", reachable / "c"
    assert postgres.prepare(*places, account, throwaway=True) is True
    assert not half_made.exists()
    assert postgres.prepare(*places, account, throwaway=True) is False
