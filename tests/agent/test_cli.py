"""What operators type on a host."""

import io
import json
import sqlite3
import sys

import pytest

from agent import cli, jail
from agent.jail import Jail
from agent.ledger_schema import SCHEMA
from agent.membership import Membership
from compute.agent import hypervisors
from tests.agent.stand_in import JOIN_TOKEN
from tests.fakes import FakeHypervisor

COMPLETE = Jail(uid=True, capabilities=True, namespaces=True, cgroup="v2")


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A machine with the fake hypervisor and a whole jail, which has not joined."""
    monkeypatch.setenv("PILEUS_AGENT_HOME", str(tmp_path / "agent"))
    monkeypatch.setenv("PILEUS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("PILEUS_EMBEDDED", raising=False)
    monkeypatch.setattr(hypervisors, "installed", lambda paths, jail: {"qemu": FakeHypervisor(tmp_path / "fake")})
    monkeypatch.setattr(jail, "probe", lambda paths: COMPLETE)
    monkeypatch.setattr(cli, "_configure_log", lambda level: None)  # it would outlive the test
    return tmp_path / "agent"


def test_a_host_joins_and_keeps_its_secret_to_itself(host, control_plane, capsys):
    assert cli.main(["join", control_plane.url, JOIN_TOKEN, "--name", "node7"]) == 0
    assert capsys.readouterr().out == f"joined {control_plane.url} as node7\n"
    member = Membership.read(host / "agent.json")
    assert (member.name, member.token, member.queue) == ("node7", "secret", "host.1")
    assert (host / "agent.json").stat().st_mode & 0o777 == 0o600
    (told,) = control_plane.joined
    assert told["capacity"].keys() == {"vcpus", "memory_mib", "disk_gib"}
    assert told["capabilities"]["architectures"] == ["x86_64"]
    assert told["capabilities"]["jail"]["cgroup"] == "v2"


def test_a_bad_token_is_refused_in_the_control_planes_words(host, control_plane, capsys):
    assert cli.main(["join", control_plane.url, "wrong"]) == 1
    assert "unknown, used or expired" in capsys.readouterr().err
    assert not (host / "agent.json").exists()


def test_a_token_need_not_be_an_argument(host, control_plane, capsys, monkeypatch):
    assert cli.main(["join", control_plane.url]) == 1
    assert "a token is needed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{JOIN_TOKEN}\n"))
    assert cli.main(["join", control_plane.url, "-"]) == 0
    (host / "agent.json").unlink()
    monkeypatch.setenv("PILEUS_JOIN_TOKEN", JOIN_TOKEN)
    assert cli.main(["join", control_plane.url]) == 0


def test_nobody_joins_twice(host, control_plane, capsys):
    assert cli.main(["join", control_plane.url, JOIN_TOKEN]) == 0
    assert cli.main(["join", control_plane.url, JOIN_TOKEN]) == 1
    assert "already" in capsys.readouterr().err


def test_a_control_plane_that_is_away_is_said_so(host, capsys):
    assert cli.main(["join", "http://127.0.0.1:1", JOIN_TOKEN]) == 1
    assert "ConnectError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environment", "status"),
    [([], "", 1), (["--unconfined"], "", 0), ([], "1", 0)],
)
def test_missing_layers_are_a_refusal_unless_set(  # noqa: PLR0917
    host, control_plane, capsys, monkeypatch, arguments, environment, status
):
    monkeypatch.setattr(jail, "probe", lambda paths: Jail(missing={"uid": "the agent does not run as root"}))
    monkeypatch.setenv("PILEUS_EMBEDDED", environment)
    assert cli.main(["join", control_plane.url, JOIN_TOKEN, *arguments]) == status
    assert "uid: the agent does not run as root" in capsys.readouterr().err
    assert len(control_plane.joined) == (status == 0)


def test_a_host_without_hypervisor_does_not_join(host, control_plane, monkeypatch, capsys):
    monkeypatch.setattr(hypervisors, "installed", lambda paths, jail: {})
    assert cli.main(["join", control_plane.url, JOIN_TOKEN]) == 1
    assert "is QEMU installed?" in capsys.readouterr().err


def test_a_host_tells_what_it_can_run_before_it_has_joined(host, capsys):
    assert cli.main(["capabilities"]) == 0
    assert json.loads(capsys.readouterr().out)["architectures"] == ["x86_64"]


def test_status_of_an_empty_host_is_empty(host, capsys):
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == ""


def test_no_command_takes_the_ledger_from_an_older_worker_that_still_runs(host, capsys):
    host.mkdir()
    with sqlite3.connect(host / "ledger.sqlite3") as older:
        older.execute(SCHEMA[0])
    assert cli.main(["capabilities"]) == 0
    assert cli.main(["status"]) == 1
    assert "restart the worker first" in capsys.readouterr().err
    assert older.execute("SELECT count(*) FROM machine").fetchone() == (0,)
    assert cli.main(["stop-all"]) == 0  # whoever calls it has stopped the worker
    assert cli.main(["status"]) == 0


def test_the_home_may_be_given_before_or_after_the_command(host, tmp_path, control_plane):
    assert cli.main(["--home", str(tmp_path / "a"), "join", control_plane.url, JOIN_TOKEN]) == 0
    assert cli.main(["join", control_plane.url, JOIN_TOKEN, "--home", str(tmp_path / "b")]) == 0
    assert json.loads((tmp_path / "a/agent.json").read_text())["url"] == control_plane.url
    assert (tmp_path / "b/agent.json").exists()


def test_a_runtime_directory_too_long_for_sockets_is_said_so(host, monkeypatch, capsys):
    monkeypatch.setenv("PILEUS_RUNTIME_DIR", "/tmp/" + "x" * 80)
    assert cli.main(["status"]) == 1
    assert "PILEUS_RUNTIME_DIR" in capsys.readouterr().err
