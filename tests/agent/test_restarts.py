"""A part of the agent that restarts in a loop is told of; one that is stopped or killed once is not."""

import json
import os
import signal
import subprocess
import sys

import pytest

from agent.membership import Membership
from agent.paths import Paths
from agent.restarts import MIN_ENDS, SECONDS_REMEMBERED, Restarts


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "home", tmp_path / "run")


def end(paths, now, times=1):
    for _ in range(times):
        now[0] += 1
        with pytest.raises(RuntimeError), Restarts(paths, lambda: now[0]).noted("worker"):
            raise RuntimeError("it ends by itself")


def test_it_is_told_until_an_hour_after(paths):
    now = [1e9]
    restarts = Restarts(paths, lambda: now[0])
    end(paths, now, MIN_ENDS - 1)
    with restarts.noted("worker"):
        assert restarts.problems() == []
    end(paths, now)
    now[0] += 1
    with restarts.noted("worker"):
        words = "pileus-agent worker ended 3 times within an hour and was started again each time"
        assert restarts.problems() == [{"what": "restarts", "problem": words}]
        now[0] += SECONDS_REMEMBERED - 10
        assert len(restarts.problems()) == 1
        now[0] += 20
        assert restarts.problems() == []


def test_an_end_as_told_is_none(paths):
    now = [1e9]
    restarts = Restarts(paths, lambda: now[0])
    for _ in range(10):
        now[0] += 1
        with restarts.noted("worker"):
            pass
        with pytest.raises(KeyboardInterrupt), restarts.noted("node"):
            raise KeyboardInterrupt
    assert restarts.problems() == []


def test_torn_notes_and_a_folder_that_cannot_be_made_stop_nobody(paths):
    restarts = Restarts(paths)
    paths.restarts.mkdir(parents=True)
    (paths.restarts / "worker").write_text("[1, 2")
    with restarts.noted("worker"):
        assert restarts.problems() == []
    blocked = Paths(paths.restarts / "worker" / "home", paths.runtime)
    with Restarts(blocked).noted("worker"):
        assert Restarts(blocked).problems() == []


def test_a_real_part_that_is_killed_again_and_again_is_told_and_one_that_is_stopped_is_not(open_home):
    paths = Paths(open_home, open_home / "run")
    Membership("http://127.0.0.1:1", "1", "node1", "secret", "", "", "").write(paths.membership)
    run_node(paths, signal.SIGTERM)
    assert json.loads((paths.restarts / "node").read_text()) == []
    for _ in range(MIN_ENDS):
        run_node(paths, signal.SIGKILL)
    with Restarts(paths).noted("node"):
        [problem] = Restarts(paths).problems()
    assert problem["problem"].startswith(f"pileus-agent node ended {MIN_ENDS} times")


def run_node(paths, end_by):
    """A real node service, ended when it is at work: it says that nobody answers at its control plane's address."""
    env = os.environ | {"PILEUS_AGENT_HOME": str(paths.home), "PILEUS_RUNTIME_DIR": str(paths.runtime)}
    command = [sys.executable, "-P", "-m", "agent.cli", "node"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        line = next((line for line in process.stderr if "no connection" in line), "")
        process.send_signal(end_by)
    assert line
