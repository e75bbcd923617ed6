"""`./pileus` itself: the part in sh."""

import hashlib
import os
import resource
import subprocess
import tempfile
from pathlib import Path

import pytest

from cloud.embedded.paths import TREE

PILEUS = TREE / "pileus"


def run(*arguments, home, cwd="/", **variables):
    env = os.environ | {"PILEUS_HOME": str(home)} | variables
    return subprocess.run(
        [PILEUS, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def home():
    """A state folder whose virtual environment is finished; its Python only says what it was called with."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "venv" / "bin").mkdir(parents=True)
        python = home / "venv" / "bin" / "python"
        python.write_text('#!/bin/sh\necho "called: $*"\necho "home: $PILEUS_HOME"\n')
        python.chmod(0o755)
        for lock in ("requirements.lock", "requirements-dev.lock"):
            checksum = hashlib.sha256((TREE / lock).read_bytes()).hexdigest()
            (home / "venv" / f"{lock}.stamp").write_text(f"{checksum}  -\n/bin/sh\n{TREE}\n")
        yield home


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",)])
def test_alone_it_says_what_it_can_do_and_touches_nothing(arguments, tmp_path):
    done = run(*arguments, home=tmp_path / "home")
    assert done.returncode == 0
    assert "./pileus up" in done.stdout
    assert not (tmp_path / "home").exists()


def test_an_unknown_command_is_named(tmp_path):
    done = run("upp", home=tmp_path / "home")
    assert done.returncode == 1
    assert "there is no command “upp”" in done.stderr


@pytest.mark.parametrize("command", ["up", "down", "restart", "status", "check", "lock"])
@pytest.mark.parametrize("argument", ["now", "web", "--force", "-x", ""])
def test_arguments_that_a_command_does_not_know_are_refused_before_it_does_anything(command, argument, tmp_path):
    done = run(command, argument, home=tmp_path / "home")
    assert done.returncode == 1
    assert f"“{command}” takes no arguments" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["up", "down", "restart", "status", "logs", "image", "check", "lock"])
@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("web", "--help")])
def test_help_helps_and_does_nothing_else(command, arguments, tmp_path):
    done = run(command, *arguments, home=tmp_path / "home")
    assert done.returncode == 0
    assert "./pileus up" in done.stdout
    assert not (tmp_path / "home").exists()


def test_it_hands_over_with_all_arguments_from_any_directory(home):
    done = run("logs", "web", "a b", home=home, cwd="/usr")
    assert done.stdout.splitlines() == ["called: -P -m cloud.embedded logs web a b", f"home: {home}"]


@pytest.mark.parametrize("command", ["up", "status", "test", "check"])
def test_a_finished_environment_costs_next_to_nothing(home, command):
    before = processor_seconds()
    assert run(command, home=home).returncode == 0
    assert processor_seconds() - before < 0.5


def processor_seconds() -> float:
    """Of all processes that this one has started, and that have ended: a busy machine makes them no dearer."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_it_works_through_a_symbolic_link(home, tmp_path):
    (tmp_path / "pileus").symlink_to(PILEUS)
    env = os.environ | {"PILEUS_HOME": str(home)}
    done = subprocess.run([tmp_path / "pileus", "status"], env=env, capture_output=True, text=True, check=True)
    assert "cloud.embedded status" in done.stdout


def test_a_state_folder_that_cannot_be_made_is_named():
    done = run("status", home="/proc/none")
    assert done.returncode == 1
    assert "cannot make the state folder /proc/none" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands over to other users")
def test_root_is_told_when_its_processes_could_not_reach_the_state_folder(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    done = run("up", home=tmp_path / "closed" / "home")
    assert done.returncode == 1
    assert "cannot reach" in done.stderr


def test_it_is_posix_sh():
    subprocess.run(["/bin/sh", "-n", PILEUS], check=True)
    assert PILEUS.read_text().startswith("#!/bin/sh\n")
