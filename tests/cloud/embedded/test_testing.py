"""`./pileus test`: what its tests are told, and that nothing stays behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cloud.embedded import testing
from cloud.embedded.testing import environment_of_tests

SLEEPER = """
import os, pathlib, time

def test_sleep():
    (pathlib.Path(__file__).parent / "told").write_text(os.environ["PILEUS_HOME"])
    time.sleep({seconds})
"""


@pytest.fixture
def run(tmp_path):
    def start(seconds):
        (tmp_path / "test_sleep.py").write_text(SLEEPER.format(seconds=seconds))
        command = [sys.executable, "-P", "-m", "cloud.embedded", "test", "-q", str(tmp_path / "test_sleep.py")]
        env = os.environ | {"PYTEST_ADDOPTS": ""}
        return subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    return start


def folder_of(tmp_path):
    until = time.monotonic() + 60
    while not (tmp_path / "told").exists():
        assert time.monotonic() < until, "the test does not run"
        time.sleep(0.05)
    return Path((tmp_path / "told").read_text()).parent


def servers_below(folder):
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or [])
    ]


def test_it_ends_with_the_code_of_pytest_and_takes_its_servers_along(run, tmp_path):
    process = run(0)
    assert process.wait(120) == 0
    folder = folder_of(tmp_path)
    assert "1 passed" in process.stdout.read()
    assert not folder.exists()
    assert servers_below(folder) == []


def test_ctrl_c_leaves_nothing(run, tmp_path):
    process = run(600)
    folder = folder_of(tmp_path)
    assert servers_below(folder)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) != 0
    assert not folder.exists()
    assert servers_below(folder) == []


def test_servers_die_with_a_run_that_is_killed(run, tmp_path):
    process = run(600)
    folder = folder_of(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    until = time.monotonic() + 20
    while servers_below(folder):
        assert time.monotonic() < until, "they live"
        time.sleep(0.1)
    shutil.rmtree(folder)


def test_tests_are_not_told_of_the_cloud_that_runs_beside_them(monkeypatch):
    monkeypatch.setenv("PILEUS_RUNTIME_DIR", "/run/pileus")
    monkeypatch.setenv("PILEUS_PORT", "8080")
    env = environment_of_tests()
    assert not {"PILEUS_RUNTIME_DIR", "PILEUS_PORT"} & env.keys()


def test_a_whole_run_that_is_interrupted_measures_nothing(monkeypatch, tmp_path):
    """There are no numbers to read then, which would be the last that is heard of it."""
    monkeypatch.setattr(testing, "_migrated", lambda env: {})
    monkeypatch.setattr(testing, "_pytest", lambda arguments, env: 2)
    assert testing._everything({"PILEUS_HOME": str(tmp_path / "home")}) == 2
